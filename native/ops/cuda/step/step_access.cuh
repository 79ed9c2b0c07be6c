#pragma once

#include "common/step_batch.h"
#include "ops/cuda/device/platform.h"
#include "ops/cuda/step/attention_work.h"
#include "ops/cuda/step/step_data.h"

namespace apar::cuda {

__device__ inline const int32_t* step_array(const StepHeader* step, int32_t offset) {
  return reinterpret_cast<const int32_t*>(step) + offset;
}

__device__ inline const AttentionItem* step_items(const StepHeader* step, int32_t offset) {
  return reinterpret_cast<const AttentionItem*>(step_array(step, offset));
}

// The index of a slot and KV head in a layer's pool: [block][kv_head][kBlockTokens].
__device__ inline int64_t pool_token(int32_t slot, int32_t kv_heads, int32_t kv_head) {
  const int64_t block = static_cast<int64_t>(slot / kBlockTokens) * kv_heads + kv_head;
  return block * kBlockTokens + slot % kBlockTokens;
}

}  // namespace apar::cuda
