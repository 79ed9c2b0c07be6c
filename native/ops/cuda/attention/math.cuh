#pragma once

#include "ops/cuda/device/platform.h"

namespace apar::cuda {

constexpr float kLog2E = 1.4426950408889634f;  // scores are in base 2

// A partial softmax over some tokens: `sum` adds 2^(score - max) * value, `total` adds 2^(score - max).
// Kernels that fold partial results and the kernel that merges them must round alike. So the operations are
// written as intrinsics, and the compiler cannot fuse them differently.

__device__ inline float partial_weight(float max, float common_max) {
  return max == -INFINITY ? 0.0f : exp2f(max - common_max);
}
__device__ inline float merged_sum(float sum, float weight, float other, float other_weight) {
  return fmaf(other, other_weight, __fmul_rn(sum, weight));
}

// One element of a partial result.
struct PartialValue {
  float max = -INFINITY;
  float total = 0;
  float sum = 0;

  __device__ void fold(const PartialValue& next) {
    const float common = fmaxf(max, next.max);
    const float weight = partial_weight(max, common), next_weight = partial_weight(next.max, common);
    total = merged_sum(total, weight, next.total, next_weight);
    sum = merged_sum(sum, weight, next.sum, next_weight);
    max = common;
  }
};

}  // namespace apar::cuda
