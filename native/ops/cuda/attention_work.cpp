#include "ops/cuda/attention_work.h"

#include <algorithm>
#include <numeric>

namespace apar::cuda {
namespace {

std::span<const int32_t> path_of(const StepBatch& batch, int32_t sequence) {
  const SequenceRows& rows = batch.sequences[sequence];
  return batch.path.subspan(rows.path_begin, rows.path_length);
}

// Tokens that both paths begin with.
int32_t common_tokens(const StepBatch& batch, int32_t a, int32_t b) {
  const auto path_a = path_of(batch, a), path_b = path_of(batch, b);
  int32_t tokens = 0;
  for (size_t depth = 0; depth < std::min(path_a.size(), path_b.size()) && path_a[depth] == path_b[depth];
       ++depth)
    tokens += batch.nodes[path_a[depth]].num_tokens;
  return tokens;
}

int32_t chunks_of(int32_t tokens) {
  return (tokens + kChunkTokens - 1) / kChunkTokens;
}

}  // namespace

int64_t AttentionWork::max_parts(int32_t max_rows, int32_t max_context) {
  const int64_t spans = (max_context + kSpanTokens - 1) / kSpanTokens;
  return max_rows * (spans + kSpanChunks);
}

void AttentionWork::sort_sequences(const StepBatch& batch) {
  order_.resize(batch.sequences.size());
  std::iota(order_.begin(), order_.end(), 0);
  std::sort(order_.begin(), order_.end(), [&](int32_t a, int32_t b) {
    const auto path_a = path_of(batch, a), path_b = path_of(batch, b);
    return std::lexicographical_compare(path_a.begin(), path_a.end(), path_b.begin(), path_b.end());
  });
}

void AttentionWork::build(const StepBatch& batch, int32_t group, int64_t max_parts) {
  sort_sequences(batch);
  build_sharing(batch, group, 1);
  if (num_parts_ > max_parts) build_sharing(batch, group, kSpanChunks);
  list_parts();
}

// Rows share `granularity` chunks at a time.
void AttentionWork::build_sharing(const StepBatch& batch, int32_t group, int32_t granularity) {
  for (auto* list : {&rows_, &contexts_, &slots_}) list->clear();
  small_.clear();
  large_.clear();
  parts_.clear();
  open_.clear();
  num_parts_ = 0;
  int32_t previous = -1;
  for (const int32_t sequence : order_) {
    const SequenceRows& rows = batch.sequences[sequence];
    const int32_t common = previous < 0 ? 0 : common_tokens(batch, previous, sequence) / kChunkTokens;
    const int32_t shared =
        open_.empty() ? 0 : std::min(common, open_.back().end_chunk) / granularity * granularity;
    close_beyond(batch, group, shared);
    for (Segment& segment : open_) {
      if (rows.context_length <= segment.context) continue;
      segment.sequence = sequence;
      segment.context = rows.context_length;
    }
    const auto first_row = static_cast<int32_t>(rows_.size());
    const int32_t chunks = chunks_of(rows.context_length);
    for (int32_t begin = shared; begin < chunks;) {
      const int32_t end = std::min(chunks, (begin / kSpanChunks + 1) * kSpanChunks);
      open_.push_back({begin, end, first_row, sequence, rows.context_length});
      begin = end;
    }
    for (int32_t i = 0; i < rows.num_rows; ++i) {
      rows_.push_back(rows.first_row + i);
      contexts_.push_back(rows.context_length - (rows.num_rows - 1 - i));
    }
    previous = sequence;
  }
  close_beyond(batch, group, 0);
}

// Closes what is open from `chunk` on; a segment that reaches beyond it is cut there.
void AttentionWork::close_beyond(const StepBatch& batch, int32_t group, int32_t chunk) {
  while (!open_.empty() && open_.back().end_chunk > chunk) {
    Segment beyond = open_.back();
    beyond.begin_chunk = std::max(beyond.begin_chunk, chunk);
    close(batch, group, beyond);
    if (open_.back().begin_chunk >= chunk)
      open_.pop_back();
    else
      open_.back().end_chunk = chunk;
  }
}

void AttentionWork::close(const StepBatch& batch, int32_t group, const Segment& segment) {
  const int32_t first_position = segment.begin_chunk * kChunkTokens;
  const int32_t end = std::min(segment.end_chunk * kChunkTokens, segment.context);
  if (end <= first_position) return;
  AttentionItem item;
  item.first_slot = static_cast<int32_t>(slots_.size());
  item.num_tokens = end - first_position;
  item.first_position = first_position;
  item.folded = segment.begin_chunk % kSpanChunks == 0;
  append_slots(batch, segment.sequence, first_position, end);
  const auto end_row = static_cast<int32_t>(rows_.size());
  const int32_t tile_rows = std::max(1, kLargeQueries / group);
  for (int32_t row = segment.begin_row; row < end_row;) {
    if (contexts_[row] <= first_position) {  // an earlier row of the same prompt
      ++row;
      continue;
    }
    item.first_row = row;
    item.num_rows = std::min(tile_rows, end_row - row);
    add_tile(item, group);
    row += item.num_rows;
  }
}

void AttentionWork::add_tile(AttentionItem item, int32_t group) {
  item.first_part = num_parts_;
  const int32_t chunks = item.folded ? 1 : chunks_of(item.num_tokens);
  num_parts_ += chunks * item.num_rows;
  for (int32_t row = 0; row < item.num_rows; ++row) {
    for (int32_t chunk = 0; chunk < chunks; ++chunk) {
      const int32_t at = item.first_position / kChunkTokens + chunk;
      if (contexts_[item.first_row + row] <= at * kChunkTokens) break;
      const int32_t part = item.first_part + chunk * item.num_rows + row;
      parts_.push_back({item.first_row + row, at, 2 * part + (at % kSpanChunks == 0 ? 1 : 0)});
    }
  }
  (item.num_rows * group <= kSmallQueries ? small_ : large_).push_back(item);
}

void AttentionWork::append_slots(const StepBatch& batch, int32_t sequence, int32_t begin, int32_t end) {
  int32_t first = 0;  // position of the node's first token
  for (const int32_t index : path_of(batch, sequence)) {
    const KvNodeView& node = batch.nodes[index];
    for (int32_t i = std::max(0, begin - first); i < std::min(node.num_tokens, end - first); ++i) {
      const int32_t at = node.first_offset + i;
      slots_.push_back(node.blocks[at / kBlockTokens] * kBlockTokens + at % kBlockTokens);
    }
    first += node.num_tokens;
    if (first >= end) break;
  }
}

void AttentionWork::list_parts() {
  std::sort(parts_.begin(), parts_.end(),
            [](const Part& a, const Part& b) { return a.row != b.row ? a.row < b.row : a.chunk < b.chunk; });
  merge_begin_.assign(rows_.size() + 1, 0);
  merge_parts_.clear();
  for (const Part& part : parts_) {
    ++merge_begin_[part.row + 1];
    merge_parts_.push_back(part.code);
  }
  std::partial_sum(merge_begin_.begin(), merge_begin_.end(), merge_begin_.begin());
}

}  // namespace apar::cuda
