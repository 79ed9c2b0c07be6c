#pragma once

#include "ops/cuda/attention_work.h"
#include "ops/cuda/platform.h"
#include "ops/cuda/step_data.h"

namespace apar::cuda {

__device__ inline const int32_t* step_array(const StepHeader* step, int32_t offset) {
  return reinterpret_cast<const int32_t*>(step) + offset;
}

__device__ inline const AttentionItem* step_items(const StepHeader* step, int32_t offset) {
  return reinterpret_cast<const AttentionItem*>(step_array(step, offset));
}

}  // namespace apar::cuda
