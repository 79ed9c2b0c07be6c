// The kernels themselves, compiled for the host.
#include "ops/cuda/gemm_unpack.cu"
