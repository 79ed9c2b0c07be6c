#pragma once

#include <cstddef>
#include <cstdint>

#include "ops/cuda/gemm/plan.h"
#include "ops/cuda/step/attention_work.h"
#include "ops/ops.h"

namespace apar::cuda {

// The bytes of the keys and values of num_blocks blocks in all layers.
uint64_t kv_pool_bytes(const OpsConfig& config, int32_t num_blocks);

// The maximum number of slots in a step's work list.
int64_t max_step_slots(const OpsConfig& config, Sharing sharing);

// The maximum number of 32-bit words of a step's data (step_buffer.h).
size_t max_step_words(const OpsConfig& config, int64_t max_partials, int64_t max_slots);

// The bytes of the scratch memory of matrix products.
constexpr uint64_t bytes_of(const GemmScratch& scratch) {
  return static_cast<uint64_t>(scratch.partials) * sizeof(float) +
         static_cast<uint64_t>(scratch.arrived) * sizeof(int32_t);
}

// The number of KV blocks that fit in free_bytes together with `other_bytes` (weights, activations).
// `reserve`, a share of free_bytes in [0, 1), is left for fragmentation and for other programs. Returns 0
// when not even one block fits.
int32_t affordable_blocks(const OpsConfig& config, uint64_t free_bytes, uint64_t other_bytes, double reserve);

}  // namespace apar::cuda
