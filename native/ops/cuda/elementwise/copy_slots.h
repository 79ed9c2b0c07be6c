#pragma once

#include <cstdint>

#include "common/draft.h"
#include "ops/cuda/device/platform_types.h"
#include "ops/cuda/step/kv_layout.h"

namespace apar::cuda {

// A part of the KV pool: [layer][block][kv_head][kBlockTokens] tokens of `bytes` each, an even number.
struct PoolSide {
  void* data = nullptr;
  int32_t layers = 0;
  int32_t blocks = 0;
  int32_t kv_heads = 0;
  int32_t bytes = 0;
};

// Copies tokens of all layers and heads from slot to slot, in order; copies[count] is in device memory.
void copy_slots(Stream stream, const SlotCopy* copies, int32_t count, const PoolSide& side);

}  // namespace apar::cuda
