#include "ops/cuda/step/attention_work.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <numeric>

#include "common/error.h"

namespace apar::cuda {
namespace {

std::span<const int32_t> path_of(const StepBatch& batch, int32_t sequence) {
  const SequenceRows& rows = batch.sequences[sequence];
  return batch.path.subspan(rows.path_begin, rows.path_length);
}

// The number of tokens in the common prefix of both paths.
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

Sharing parse_sharing(const std::string& name) {
  if (name == "shared") return Sharing::always;
  if (name == "plain") return Sharing::never;
  if (name == "auto") return Sharing::by_cost;
  throw Error(ErrorCode::invalid_config, "unknown attention " + name);
}

Sharing sharing_from_environment() {
  const char* const name = std::getenv("APAR_CUDA_ATTENTION");
  return name == nullptr ? Sharing::by_cost : parse_sharing(name);
}

int64_t AttentionWork::max_partials(int32_t max_rows, int32_t max_context) {
  const int64_t spans = (max_context + kSpanTokens - 1) / kSpanTokens;
  return max_rows * (spans + kSpanChunks);
}

void AttentionWork::sort_sequences(const StepBatch& batch) {
  const auto before = [&](int32_t a, int32_t b) {
    const auto path_a = path_of(batch, a), path_b = path_of(batch, b);
    return std::lexicographical_compare(path_a.begin(), path_a.end(), path_b.begin(), path_b.end());
  };
  if (order_.size() != batch.sequences.size()) {
    order_.resize(batch.sequences.size());
    std::iota(order_.begin(), order_.end(), 0);
  }
  // The order seldom changes from one step to the next.
  if (!std::is_sorted(order_.begin(), order_.end(), before)) std::sort(order_.begin(), order_.end(), before);
}

// Lists the rows in the order of their paths, and the chunks that each sequence shares with the previous one.
void AttentionWork::plan_rows(const StepBatch& batch) {
  rows_.clear();
  contexts_.clear();
  common_.clear();
  int32_t previous = -1;
  for (const int32_t sequence : order_) {
    common_.push_back(previous < 0 ? 0 : common_tokens(batch, previous, sequence) / kChunkTokens);
    const SequenceRows& rows = batch.sequences[sequence];
    for (int32_t i = 0; i < rows.num_rows; ++i) {
      rows_.push_back(rows.first_row + i);
      contexts_.push_back(rows.context_length - (rows.num_rows - 1 - i));
    }
    previous = sequence;
  }
}

void AttentionWork::build(const StepBatch& batch, int32_t group, int64_t max_partials, int64_t max_slots) {
  sort_sequences(batch);
  plan_rows(batch);
  walk(batch, group, choose_granularity(batch, group, max_partials, max_slots), true);
  list_partials();
}

// Chooses the granularity of sharing: sequences share multiples of this number of chunks.
int32_t AttentionWork::choose_granularity(const StepBatch& batch, int32_t group, int64_t max_partials,
                                          int64_t max_slots) {
  constexpr int32_t kNoSharing = std::numeric_limits<int32_t>::max();
  const bool common = std::any_of(common_.begin(), common_.end(), [](int32_t chunks) { return chunks > 0; });
  if (!common || sharing_ == Sharing::never) return kNoSharing;
  int32_t best = kNoSharing;
  int64_t best_bytes = std::numeric_limits<int64_t>::max();
  for (const int32_t granularity : {1, kSpanChunks, kNoSharing}) {
    walk(batch, group, granularity, false);
    if (count_.partials > max_partials || count_.slots > max_slots) continue;
    if (sharing_ == Sharing::always) return granularity;
    if (bytes() >= best_bytes) continue;
    best = granularity;
    best_bytes = bytes();
  }
  return best;
}

// Walks the tree and lists its items, or only counts the bytes that they move. Rows share multiples of
// `granularity` chunks.
void AttentionWork::walk(const StepBatch& batch, int32_t group, int32_t granularity, bool listing) {
  listing_ = listing;
  slots_.clear();
  small_.clear();
  large_.clear();
  partials_.clear();
  open_.clear();
  count_ = {};
  end_row_ = 0;
  for (size_t i = 0; i < order_.size(); ++i) {
    const int32_t sequence = order_[i];
    const SequenceRows& rows = batch.sequences[sequence];
    const int32_t shared =
        open_.empty() ? 0 : std::min(common_[i], open_.back().end_chunk) / granularity * granularity;
    close_beyond(batch, group, shared);
    for (Segment& segment : open_) {
      if (rows.context_length <= segment.context) continue;
      segment.sequence = sequence;
      segment.context = rows.context_length;
    }
    const int32_t chunks = chunks_of(rows.context_length);
    for (int32_t begin = shared; begin < chunks;) {
      const int32_t end = std::min(chunks, (begin / kSpanChunks + 1) * kSpanChunks);
      open_.push_back({begin, end, end_row_, sequence, rows.context_length});
      begin = end;
    }
    end_row_ += rows.num_rows;
  }
  close_beyond(batch, group, 0);
}

// Closes the open segments from `chunk` on; a segment that contains `chunk` is cut there.
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
  count_.slots += item.num_tokens;
  if (listing_) append_slots(batch, segment.sequence, first_position, end);
  const int32_t tile_rows = std::max(1, kLargeQueries / group);
  for (int32_t row = segment.begin_row; row < end_row_;) {
    if (contexts_[row] <=
        first_position) {  // an earlier row of the same prompt, which sees none of the tokens
      ++row;
      continue;
    }
    item.first_row = row;
    item.num_rows = std::min(tile_rows, end_row_ - row);
    add_tile(item, group);
    row += item.num_rows;
  }
}

void AttentionWork::add_tile(AttentionItem item, int32_t group) {
  item.first_partial = count_.partials;
  const int32_t chunks = item.folded ? 1 : chunks_of(item.num_tokens);
  count_.partials += chunks * item.num_rows;
  count_.tokens += item.num_tokens;
  count_.rows += item.num_rows;
  if (!listing_) return;
  for (int32_t row = 0; row < item.num_rows; ++row) {
    for (int32_t chunk = 0; chunk < chunks; ++chunk) {
      const int32_t at = item.first_position / kChunkTokens + chunk;
      if (contexts_[item.first_row + row] <= at * kChunkTokens) break;
      const int32_t partial = item.first_partial + chunk * item.num_rows + row;
      partials_.push_back({item.first_row + row, at, 2 * partial + (at % kSpanChunks == 0 ? 1 : 0)});
    }
  }
  (item.num_rows * group <= kSmallQueries ? small_ : large_).push_back(item);
}

void AttentionWork::append_slots(const StepBatch& batch, int32_t sequence, int32_t begin, int32_t end) {
  const size_t listed = slots_.size();
  slots_.resize(listed + static_cast<size_t>(end - begin));
  int32_t* to = slots_.data() + listed;
  int32_t first = 0;  // position of the node's first token
  for (const int32_t index : path_of(batch, sequence)) {
    const KvNodeView& node = batch.nodes[index];
    const int32_t last = node.first_offset + std::min(node.num_tokens, end - first);
    for (int32_t at = node.first_offset + std::max(0, begin - first); at < last;) {
      int32_t slot = node.blocks[at / kBlockTokens] * kBlockTokens + at % kBlockTokens;
      const int32_t block_end = std::min(last, (at / kBlockTokens + 1) * kBlockTokens);
      for (; at < block_end; ++at) *to++ = slot++;
    }
    first += node.num_tokens;
    if (first >= end) break;
  }
}

void AttentionWork::list_partials() {
  merge_begin_.assign(rows_.size() + 1, 0);
  for (const Partial& partial : partials_) ++merge_begin_[partial.row + 1];
  std::partial_sum(merge_begin_.begin(), merge_begin_.end(), merge_begin_.begin());
  sorted_.resize(partials_.size());
  next_.assign(merge_begin_.begin(), merge_begin_.end());
  for (const Partial& partial : partials_) sorted_[next_[partial.row]++] = partial;
  merge_partials_.clear();
  for (size_t row = 0; row < rows_.size(); ++row)
    std::sort(sorted_.begin() + merge_begin_[row], sorted_.begin() + merge_begin_[row + 1],
              [](const Partial& a, const Partial& b) { return a.chunk < b.chunk; });
  for (const Partial& partial : sorted_) merge_partials_.push_back(partial.code);
}

}  // namespace apar::cuda
