#pragma once

#include "ops/cuda/device/intrinsics.cuh"

namespace apar::cuda {

// The sum of one value per thread. The order of additions depends only on the number of threads. `of_warps`
// is shared memory for one value per warp. Every warp adds the sums of all warps itself, so that one barrier
// is enough.
__device__ inline float block_sum(float value, float* of_warps) {
  const uint32_t lane = threadIdx.x % 32;
  value = warp_sum(value);
  if (lane == 0) of_warps[threadIdx.x / 32] = value;
  __syncthreads();
  return warp_sum(lane < blockDim.x / 32 ? of_warps[lane] : 0.0f);
}

// 1 / sqrt(mean(x^2) + eps) from each thread's sum of squares. Uses the beginning of shared memory, one float
// per warp.
__device__ inline float norm_scale(float squares, int32_t width, float eps) {
  const float sum = block_sum(squares, reinterpret_cast<float*>(shared_memory()));
  return 1.0f / sqrtf(sum / static_cast<float>(width) + eps);
}

}  // namespace apar::cuda
