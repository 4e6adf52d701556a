// The kernels and their host code, compiled for the emulator.
#include "gpu/cluster_search.cu"
#include "gpu/gallery.cu"
#include "gpu/gallery_copy.cu"
#include "gpu/gpu_segment.cu"
#include "gpu/level_cuts.cu"
#include "gpu/planes.cu"
#include "gpu/scan.cu"
#include "gpu/staging.cu"
