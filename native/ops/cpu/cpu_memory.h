#pragma once

#include "ops/device_memory.h"

namespace apar::cpu {

// The buffers of CpuOps besides the KV pool. A tile is the query vectors that share one pass over the keys.
struct StepSizes {
  int32_t rows_per_tile = 1;
  int64_t queries = 1;       // of a tile: rows x heads of a group
  int64_t score_stride = 0;  // tokens
  // Floats, per thread:
  uint64_t scores = 0;   // [queries][score_stride]
  uint64_t rotated = 0;  // [queries][head_dim]; there are two of them
  uint64_t sums = 0;     // [queries][value_stride]
  // For all threads together:
  uint64_t prepared_bytes = 0;  // the activations of one matmul call
  uint64_t rope = 0;            // floats: [max_context][cos, sin][rope_frequencies]
  uint64_t draft_logits = 0;    // floats: [draft_rows][vocab_size]
};
StepSizes step_sizes(const OpsConfig& config);

// The bytes of the keys (`width` is head_dim) or of the values (value_stride) of the whole pool.
uint64_t pool_side_bytes(const OpsConfig& config, int64_t width);

// The host as a device: CpuOps with this number of threads.
class CpuMemory final : public DeviceMemory {
 public:
  explicit CpuMemory(int32_t threads) : threads_(threads) {}

  FreeMemory free_memory() const override;
  bool is_host() const override { return true; }
  uint64_t linear_bytes(std::span<const Matrix> layers, WeightFormat format) const override;
  uint64_t buffer_bytes(uint64_t count) const override { return bounded_product({count, sizeof(float)}); }
  uint64_t step_bytes(const OpsConfig& config) const override;
  uint64_t pool_bytes(const OpsConfig& config) const override;

 private:
  int32_t threads_;
};

}  // namespace apar::cpu
