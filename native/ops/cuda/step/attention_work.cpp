#include "ops/cuda/step/attention_work.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <utility>

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
  constexpr int32_t kFewRows = 16;
  const int64_t spans = (max_context + kSpanTokens - 1) / kSpanTokens;
  return std::max(max_rows * (spans + kSpanChunks),
                  int64_t{std::min(max_rows, kFewRows)} * chunks_of(max_context));
}

// Whether a sequence fills tiles of its own, so that it gains nothing from sharing its reads with others.
bool AttentionWork::is_prompt(const StepBatch& batch, int32_t sequence) const {
  return batch.sequences[sequence].num_rows * group_ >= kLargeQueries &&
         batch.sequences[sequence].num_rows > 1;
}

// Prompts come first, then the other sequences, both by path.
void AttentionWork::sort_sequences(const StepBatch& batch) {
  const auto before = [&](int32_t a, int32_t b) {
    const bool prompt_a = is_prompt(batch, a), prompt_b = is_prompt(batch, b);
    if (prompt_a != prompt_b) return prompt_a;
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

// Lists the rows in the order of their sequences, and the tokens that each sequence shares with the previous
// one.
void AttentionWork::plan_rows(const StepBatch& batch) {
  rows_.clear();
  contexts_.clear();
  common_.clear();
  prompts_ = prompt_rows_ = prompt_tiles_ = 0;
  int32_t previous = -1;
  for (const int32_t sequence : order_) {
    const SequenceRows& rows = batch.sequences[sequence];
    const bool prompt = is_prompt(batch, sequence);
    const bool first = previous < 0 || (!prompt && prompts_ > 0 && prompts_ == std::ssize(common_));
    common_.push_back(first ? 0 : common_tokens(batch, previous, sequence));
    if (prompt) {
      ++prompts_;
      prompt_rows_ += rows.num_rows;
      prompt_tiles_ += (rows.num_rows + tile_rows() - 1) / tile_rows();
    }
    for (int32_t i = 0; i < rows.num_rows; ++i) {
      rows_.push_back(rows.first_row + i);
      contexts_.push_back(rows.context_length - (rows.num_rows - 1 - i));
    }
    previous = sequence;
  }
}

void AttentionWork::build(const StepBatch& batch, int32_t group, const AttentionLimits& limits) {
  group_ = group;
  sort_sequences(batch);
  plan_rows(batch);
  const Division division = choose_division(batch, limits);
  walk(batch, division, true);
  if (count_.items < limits.busy_items && division.prompt_spans == 1 && division.row_spans == 1) {
    Division divided = division;
    divided.item_chunks = 1;
    walk(batch, divided, true);
    if (count_.partials > limits.partials) walk(batch, division, true);
  }
  // Blocks take items in turn, so the longest go first.
  if (division.prompt_spans > 1 || division.row_spans > 1)
    for (auto* const items : {&small_, &large_})
      std::stable_sort(items->begin(), items->end(), [](const AttentionItem& a, const AttentionItem& b) {
        return a.num_tokens > b.num_tokens;
      });
  list_partials();
}

// Chooses by the bytes moved, among the divisions that fit.
AttentionWork::Division AttentionWork::choose_division(const StepBatch& batch,
                                                       const AttentionLimits& limits) {
  Division division;
  // A prompt whose tiles keep the device busy needs no more items, and then one partial result per row is the
  // cheapest. A block of few rows is done sooner with a part of a path than with all of it.
  if (prompts_ > 0 && limits.busy_items > 0 && 2 * prompt_tiles_ >= limits.busy_items)
    division.prompt_spans = kWholePath;
  const bool common =
      std::any_of(common_.begin(), common_.end(), [](int32_t tokens) { return tokens >= kChunkTokens; });
  if (!common || sharing_ == Sharing::never) return fitting(division, limits.partials);
  int64_t best_bytes = std::numeric_limits<int64_t>::max();
  Division best;
  for (const int32_t granularity : {1, kSpanChunks, kNoSharing}) {
    division.granularity = granularity;
    walk(batch, division, false);
    if (count_.partials > limits.partials || count_.slots > limits.slots) continue;
    if (sharing_ == Sharing::always) return division;
    if (bytes() >= best_bytes) continue;
    best = division;
    best_bytes = bytes();
  }
  if (best_bytes < std::numeric_limits<int64_t>::max()) return best;
  division.granularity = kSpanChunks;
  return fitting(division, limits.partials);
}

// The partial results of a division in which rows share whole spans or nothing: then every item begins with a
// span, and a row has one partial result per item that it sees.
int64_t AttentionWork::partials_of(const Division& division) const {
  int64_t partials = 0;
  for (size_t row = 0; row < contexts_.size(); ++row) {
    const bool prompt = row < static_cast<size_t>(prompt_rows_);
    const int32_t spans = (contexts_[row] + kSpanTokens - 1) / kSpanTokens;
    partials += 1 + std::max(0, spans - (prompt ? division.prompt_spans : division.row_spans));
  }
  return partials;
}

// Gives the first item of each path the fewest spans with which the partial results fit. There always are
// some: if they are as many as the path has, a row has one partial result, and there is room for each row.
AttentionWork::Division AttentionWork::fitting(Division division, int64_t max_partials) const {
  if (partials_of(division) <= max_partials || contexts_.empty()) return division;
  const auto with_spans = [&](int32_t spans) {
    Division longer = division;
    longer.prompt_spans = std::max(longer.prompt_spans, spans);
    longer.row_spans = spans;
    return longer;
  };
  int32_t too_few = 1;
  int32_t enough = *std::max_element(contexts_.begin(), contexts_.end()) / kSpanTokens + 1;
  while (enough - too_few > 1) {
    const int32_t middle = too_few + (enough - too_few) / 2;
    (partials_of(with_spans(middle)) <= max_partials ? enough : too_few) = middle;
  }
  return with_spans(std::max(enough, 2));
}

// Walks the tree and lists its items, or only counts them and the bytes that they move.
void AttentionWork::walk(const StepBatch& batch, const Division& division, bool listing) {
  listing_ = listing;
  slots_.clear();
  chunk_slots_.clear();
  small_.clear();
  large_.clear();
  partials_.clear();
  open_.clear();
  count_ = {};
  end_row_ = 0;
  lead_ = {};
  lead_tokens_ = 0;
  for (size_t i = 0; i < order_.size(); ++i) {
    const int32_t sequence = order_[i];
    const SequenceRows& rows = batch.sequences[sequence];
    const int32_t spans = i < static_cast<size_t>(prompts_) ? division.prompt_spans : division.row_spans;
    const int32_t lead_chunks = spans > 1 ? spans * kSpanChunks : 0;
    const int32_t shared = open_.empty() ? 0
                                         : std::min(common_[i] / kChunkTokens, open_.back().end_chunk) /
                                               division.granularity * division.granularity;
    close_beyond(batch, shared);
    if (lead_chunks > 0)
      lead(batch, i, lead_chunks);
    else
      close_lead();
    const int32_t least_context = rows.context_length - rows.num_rows + 1;
    for (Segment& segment : open_) {
      segment.least_context = std::min(segment.least_context, least_context);
      if (rows.context_length <= segment.context) continue;
      segment.sequence = sequence;
      segment.context = rows.context_length;
    }
    const int32_t chunks = chunks_of(rows.context_length);
    for (int32_t begin = std::max(shared, lead_chunks); begin < chunks;) {
      const int32_t end = std::min(chunks, (begin / division.item_chunks + 1) * division.item_chunks);
      open_.push_back({begin, end, end_row_, sequence, rows.context_length, least_context});
      begin = end;
    }
    end_row_ += rows.num_rows;
  }
  close_beyond(batch, 0);
  close_lead();
}

// Adds the rows of order_[place] to the lead, if they see the same tokens of their first `chunks` chunks, or
// begins another one. Only the chunks that lie on no earlier path are listed.
void AttentionWork::lead(const StepBatch& batch, size_t place, int32_t chunks) {
  const int32_t sequence = order_[place];
  const int32_t tokens = std::min(batch.sequences[sequence].context_length, chunks * kChunkTokens);
  lead_tokens_ = std::min(lead_tokens_, common_[place]);
  if (lead_.item.num_tokens > 0 && tokens <= lead_tokens_) return;
  close_lead();
  const int32_t known = lead_tokens_ / kChunkTokens, first = known * kChunkTokens;
  if (tokens > lead_tokens_) {
    count_.slots += tokens - first;
    lead_slots_.resize(static_cast<size_t>(known));
    for (int32_t at = first; at < tokens; at += kChunkTokens)
      lead_slots_.push_back(static_cast<int32_t>(slots_.size()) + at - first);
    if (listing_) append_slots(batch, sequence, first, tokens);
    lead_tokens_ = tokens;
  }
  lead_.begin_row = end_row_;
  lead_.item.num_tokens = tokens;
  lead_.item.folded = 1;
  lead_.item.first_slot = lead_slots_[0];
  lead_.item.first_chunk_slot = -1;
  const size_t listed = static_cast<size_t>(chunks_of(tokens));
  if (!listing_ || lead_slots_[listed - 1] - lead_slots_[0] == (chunks_of(tokens) - 1) * kChunkTokens) return;
  lead_.item.first_chunk_slot = static_cast<int32_t>(chunk_slots_.size());
  chunk_slots_.insert(chunk_slots_.end(), lead_slots_.begin(),
                      lead_slots_.begin() + static_cast<ptrdiff_t>(listed));
}

void AttentionWork::close_lead() {
  const Lead closed = std::exchange(lead_, {});
  if (closed.item.num_tokens > 0) add_tiles(closed.item, closed.begin_row, 1);
}

// Closes the open segments from `chunk` on; a segment that contains `chunk` is cut there.
void AttentionWork::close_beyond(const StepBatch& batch, int32_t chunk) {
  while (!open_.empty() && open_.back().end_chunk > chunk) {
    Segment beyond = open_.back();
    beyond.begin_chunk = std::max(beyond.begin_chunk, chunk);
    close(batch, beyond);
    if (open_.back().begin_chunk >= chunk)
      open_.pop_back();
    else
      open_.back().end_chunk = chunk;
  }
}

void AttentionWork::close(const StepBatch& batch, const Segment& segment) {
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
  add_tiles(item, segment.begin_row, segment.least_context);
}

// Adds the item for the rows from begin_row on that see some of its tokens. Earlier rows of a prompt may see
// none.
void AttentionWork::add_tiles(AttentionItem item, int32_t begin_row, int32_t least_context) {
  const auto sees = [&](int32_t row) {
    return least_context > item.first_position || contexts_[row] > item.first_position;
  };
  for (int32_t row = begin_row; row < end_row_;) {
    if (!sees(row)) {
      ++row;
      continue;
    }
    int32_t end = std::min(row + tile_rows(), end_row_);
    if (least_context <= item.first_position)
      for (int32_t at = row; at < end; ++at)
        if (!sees(at)) end = at;
    item.first_row = row;
    item.num_rows = end - row;
    add_tile(item);
    row = end;
  }
}

void AttentionWork::add_tile(AttentionItem item) {
  item.first_partial = count_.partials;
  const int32_t chunks = item.folded != 0 ? 1 : chunks_of(item.num_tokens);
  count_.partials += chunks * item.num_rows;
  count_.tokens += item.num_tokens;
  count_.rows += item.num_rows;
  ++count_.items;
  if (!listing_) return;
  for (int32_t row = 0; row < item.num_rows; ++row) {
    for (int32_t chunk = 0; chunk < chunks; ++chunk) {
      const int32_t at = item.first_position / kChunkTokens + chunk;
      if (contexts_[item.first_row + row] <= at * kChunkTokens) break;
      const int32_t partial = item.first_partial + chunk * item.num_rows + row;
      partials_.push_back({item.first_row + row, at, 2 * partial + (at % kSpanChunks == 0 ? 1 : 0)});
    }
  }
  (item.num_rows * group_ <= kSmallQueries ? small_ : large_).push_back(item);
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
