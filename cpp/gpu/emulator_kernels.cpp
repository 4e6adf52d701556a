// The kernels and their host code, compiled for the emulator.
#include "gpu/flat_gallery.cu"
#include "gpu/planes.cu"
#include "gpu/scan.cu"
#include "gpu/tree_gallery.cu"
