// The kernels and what starts them, compiled for the twin.
#include "gpu/flat_gallery.cu"
#include "gpu/planes.cu"
#include "gpu/scan.cu"
#include "gpu/tree_gallery.cu"
