#pragma once

#include "ops/cuda/device/platform.h"

namespace apar::cuda {

// A partial softmax: `sum` over some tokens of 2^(score - max) * value, `total` of 2^(score - max). Kernels
// that fold and the kernel that merges must round alike, so the operations are spelled out: the compiler may
// not fuse others.

__device__ inline float part_weight(float max, float common_max) {
  return max == -INFINITY ? 0.0f : exp2f(max - common_max);
}
__device__ inline float part_sum(float sum, float weight, float other, float other_weight) {
  return fmaf(other, other_weight, __fmul_rn(sum, weight));
}

// One element of a partial result.
struct PartValue {
  float max = -INFINITY;
  float total = 0;
  float sum = 0;

  __device__ void fold(const PartValue& next) {
    const float common = fmaxf(max, next.max);
    const float weight = part_weight(max, common), next_weight = part_weight(next.max, common);
    total = part_sum(total, weight, next.total, next_weight);
    sum = part_sum(sum, weight, next.sum, next_weight);
    max = common;
  }
};

}  // namespace apar::cuda
