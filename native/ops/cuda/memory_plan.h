#pragma once

#include <cstddef>
#include <cstdint>

#include "ops/cuda/gemm/plan.h"
#include "ops/cuda/step/attention_work.h"
#include "ops/ops.h"

namespace apar::cuda {

// Keys and values of num_blocks blocks in all layers.
uint64_t kv_pool_bytes(const OpsConfig& config, int32_t num_blocks);

// Slots that a step's work list can hold at most.
int64_t max_step_slots(const OpsConfig& config, Sharing sharing);

// Words that a step's data can take at most (step_buffer.h).
size_t max_step_words(const OpsConfig& config, int64_t max_parts, int64_t max_slots);

// What the parts of matrix products take.
constexpr uint64_t bytes_of(const GemmScratch& scratch) {
  return static_cast<uint64_t>(scratch.partials) * sizeof(float) +
         static_cast<uint64_t>(scratch.arrived) * sizeof(int32_t);
}

// KV blocks that fit in free_bytes beside `other_bytes` (weights, activations), leaving `reserve` of the free
// bytes, a share in [0, 1), to fragmentation and to others. 0 when not one fits.
int32_t affordable_blocks(const OpsConfig& config, uint64_t free_bytes, uint64_t other_bytes, double reserve);

}  // namespace apar::cuda
