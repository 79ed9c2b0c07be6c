#include "ops/cpu/cpu_memory.h"

#include <algorithm>

#include "ops/cpu/host_memory.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/packed.h"

namespace apar::cpu {
namespace {

// Query vectors that share one pass over the keys. Their scores stay in the L2 cache up to contexts of a few
// thousand tokens.
constexpr int32_t kTileQueries = 32;

uint64_t number(int64_t value) {
  return static_cast<uint64_t>(value);
}

}  // namespace

StepSizes step_sizes(const OpsConfig& config) {
  const int32_t group = config.num_heads / config.num_kv_heads;
  StepSizes sizes;
  sizes.rows_per_tile = std::max(1, kTileQueries / group);
  sizes.queries = int64_t{sizes.rows_per_tile} * group;
  // Scores are written a whole block at a time, and the last block may begin at the last position.
  sizes.score_stride = int64_t{config.max_context} + kBlockTokens;
  sizes.scores = bounded_product({number(sizes.queries), number(sizes.score_stride)});
  sizes.rotated = bounded_product({number(sizes.queries + kQueryPadding), number(config.head_dim)});
  sizes.sums = bounded_product({number(sizes.queries), number(value_stride(config.head_dim))});
  sizes.prepared_bytes = bounded_product(
      {number(std::max(config.max_rows, config.draft_rows)), number(max_prepared_bytes(config.max_inputs))});
  sizes.rope = bounded_product({number(config.max_context), 2, config.rope_frequencies.size()});
  sizes.draft_logits = bounded_product({number(config.draft_rows), number(config.vocab_size)});
  return sizes;
}

uint64_t pool_side_bytes(const OpsConfig& config, int64_t width) {
  return bounded_product({number(config.num_layers), number(config.num_blocks), number(config.num_kv_heads),
                          number(width), kBlockTokens, element_bytes(config.kv_format)});
}

FreeMemory CpuMemory::free_memory() const {
  return free_host_memory();
}

uint64_t CpuMemory::linear_bytes(std::span<const Matrix> layers, WeightFormat format) const {
  uint64_t bytes = 0;
  for (const Matrix& layer : layers)
    bytes += format == WeightFormat::f32
                 ? bounded_product({number(layer.rows), number(layer.cols), sizeof(float)})
                 : bounded_product({number(panels(layer.rows)), number(panel_bytes(format, layer.cols))});
  return bytes;
}

uint64_t CpuMemory::step_bytes(const OpsConfig& config) const {
  const StepSizes sizes = step_sizes(config);
  const uint64_t thread = sizes.scores + 2 * sizes.rotated + sizes.sums;
  return bounded_product({number(threads_), thread, sizeof(float)}) + sizes.prepared_bytes +
         bounded_product({sizes.rope, sizeof(float)}) + bounded_product({sizes.draft_logits, sizeof(float)});
}

uint64_t CpuMemory::pool_bytes(const OpsConfig& config) const {
  return pool_side_bytes(config, config.head_dim) + pool_side_bytes(config, value_stride(config.head_dim));
}

}  // namespace apar::cpu
