// The kernels themselves, compiled for the host.
#include "ops/cuda/attention_mma.cu"
