// The kernels themselves, compiled for the host.
#include "ops/cuda/rope.cu"
