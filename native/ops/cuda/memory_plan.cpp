#include "ops/cuda/memory_plan.h"

#include <algorithm>
#include <limits>

#include "ops/cuda/step/attention_work.h"
#include "ops/cuda/step/step_data.h"

namespace apar::cuda {

uint64_t kv_pool_bytes(const OpsConfig& config, int32_t num_blocks) {
  return uint64_t{1} * config.num_layers * num_blocks * config.num_kv_heads * kBlockTokens *
         kv_token_bytes(config.kv_format, config.head_dim);
}

int64_t max_step_slots(const OpsConfig& config, Sharing sharing) {
  const int64_t rows = config.max_rows;
  if (sharing == Sharing::never) return rows * config.max_context;
  // A token in a chunk or span within which sequences diverge is listed once per sequence that reads it. That
  // adds less than a span per sequence.
  return int64_t{config.num_blocks} * kBlockTokens + rows * kSpanTokens;
}

size_t max_step_words(const OpsConfig& config, int64_t max_partials, int64_t max_slots) {
  constexpr int64_t kWordsPerItem = sizeof(AttentionItem) / sizeof(int32_t);
  constexpr int64_t kHeaderWords = sizeof(StepHeader) / sizeof(int32_t);
  const int64_t rows = config.max_rows;
  // Every item has at least one partial result.
  return static_cast<size_t>(kHeaderWords + 7 * rows + 1 + max_slots + max_partials * (kWordsPerItem + 1));
}

int32_t affordable_blocks(const OpsConfig& config, uint64_t free_bytes, uint64_t other_bytes,
                          double reserve) {
  const auto usable = static_cast<uint64_t>(static_cast<double>(free_bytes) * (1 - reserve));
  if (usable <= other_bytes) return 0;
  const uint64_t blocks = (usable - other_bytes) / kv_pool_bytes(config, 1);
  return static_cast<int32_t>(std::min<uint64_t>(blocks, std::numeric_limits<int32_t>::max() / kBlockTokens));
}

}  // namespace apar::cuda
