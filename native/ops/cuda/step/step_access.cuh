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

// The slot of a token of an item.
__device__ inline int32_t item_slot(const StepHeader* step, const AttentionItem& item, int32_t token) {
  const int32_t at = item.first_chunk_slot < 0
                         ? item.first_slot + token
                         : step_array(step, step->chunk_slots)[item.first_chunk_slot + token / kChunkTokens] +
                               token % kChunkTokens;
  return step_array(step, step->item_slots)[at];
}

// Blocks take the pairs of an item and a KV head in turn. `index` is the block's last pair, or at first
// blockIdx.x. Every other turn goes in the opposite order, so that the blocks with the longer items of one
// turn get the shorter ones of the next.
__device__ inline int32_t next_in_turn(int32_t index) {
  const auto blocks = static_cast<int32_t>(gridDim.x);
  return 2 * (index / blocks + 1) * blocks - 1 - index;
}

// The index of a slot and KV head in a layer's pool: [block][kv_head][kBlockTokens].
__device__ inline int64_t pool_token(int32_t slot, int32_t kv_heads, int32_t kv_head) {
  const int64_t block = static_cast<int64_t>(slot / kBlockTokens) * kv_heads + kv_head;
  return block * kBlockTokens + slot % kBlockTokens;
}

}  // namespace apar::cuda
