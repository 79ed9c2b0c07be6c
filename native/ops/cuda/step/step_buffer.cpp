#include "ops/cuda/step/step_buffer.h"

#include <cstring>

namespace apar::cuda {
namespace {

constexpr size_t kHeaderWords = sizeof(StepHeader) / sizeof(int32_t);
static_assert(sizeof(StepHeader) % sizeof(int32_t) == 0 && sizeof(AttentionItem) % sizeof(int32_t) == 0);

int32_t append(std::vector<int32_t>& words, std::span<const int32_t> array) {
  const auto offset = static_cast<int32_t>(words.size());
  words.insert(words.end(), array.begin(), array.end());
  return offset;
}

int32_t append(std::vector<int32_t>& words, std::span<const AttentionItem> items) {
  const auto offset = static_cast<int32_t>(words.size());
  words.resize(words.size() + items.size() * sizeof(AttentionItem) / sizeof(int32_t));
  if (!items.empty()) std::memcpy(words.data() + offset, items.data(), items.size_bytes());
  return offset;
}

}  // namespace

void write_step(const StepBatch& batch, const AttentionWork& work, std::vector<int32_t>& words) {
  words.assign(kHeaderWords, 0);
  StepHeader header;
  header.rows = batch.rows();
  header.logit_rows = static_cast<int32_t>(batch.logit_rows.size());
  header.planned_rows = static_cast<int32_t>(work.rows().size());
  header.num_items = static_cast<int32_t>(work.large_items().size() + work.small_items().size());
  header.num_large_items = static_cast<int32_t>(work.large_items().size());
  header.tokens = append(words, batch.tokens);
  header.positions = append(words, batch.positions);
  header.slots = append(words, batch.slots);
  header.logit_row_ids = append(words, batch.logit_rows);
  header.query_rows = append(words, work.rows());
  header.contexts = append(words, work.contexts());
  header.items = append(words, work.large_items());
  append(words, work.small_items());
  header.item_slots = append(words, work.slots());
  header.chunk_slots = append(words, work.chunk_slots());
  header.merge_begin = append(words, work.merge_begin());
  header.merge_partials = append(words, work.merge_partials());
  std::memcpy(words.data(), &header, sizeof(header));
}

}  // namespace apar::cuda
