#include "ops/cpu/attention_plan.h"

#include <algorithm>
#include <numeric>

namespace apar {
namespace {

std::span<const int32_t> path_of(const StepBatch& batch, int32_t sequence) {
  const SequenceRows& rows = batch.sequences[sequence];
  return batch.path.subspan(rows.path_begin, rows.path_length);
}

int32_t shared_prefix(std::span<const int32_t> a, std::span<const int32_t> b) {
  return static_cast<int32_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

}  // namespace

// Sorts sequences by path, so that the sequences below any node are adjacent.
void AttentionPlan::sort_sequences(const StepBatch& batch) {
  order_.resize(batch.sequences.size());
  std::iota(order_.begin(), order_.end(), 0);
  std::sort(order_.begin(), order_.end(), [&](int32_t a, int32_t b) {
    const auto path_a = path_of(batch, a), path_b = path_of(batch, b);
    return std::lexicographical_compare(path_a.begin(), path_a.end(), path_b.begin(), path_b.end());
  });
}

void AttentionPlan::open_segments(const StepBatch& batch, int32_t sequence, int32_t shared_nodes,
                                  int32_t begin_row, int32_t end_row) {
  const auto path = path_of(batch, sequence);
  open_.resize(shared_nodes);
  int32_t position = 0;
  for (int32_t depth = 0; depth < static_cast<int32_t>(path.size()); ++depth) {
    if (depth < shared_nodes) {
      segments_[open_[depth]].end_row = end_row;
    } else {
      open_.push_back(static_cast<int32_t>(segments_.size()));
      segments_.push_back({path[depth], position, begin_row, end_row});
    }
    position += batch.nodes[path[depth]].num_tokens;
  }
}

void AttentionPlan::build(const StepBatch& batch, int32_t rows_per_tile) {
  sort_sequences(batch);
  rows_.clear();
  contexts_.clear();
  tiles_.clear();
  segments_.clear();
  open_.clear();
  int32_t previous = -1;  // the previous sequence of the same tile, or -1
  for (const int32_t sequence : order_) {
    const SequenceRows& rows = batch.sequences[sequence];
    for (int32_t done = 0; done < rows.num_rows;) {
      const int32_t begin = static_cast<int32_t>(rows_.size());
      if (tiles_.empty() || begin - tiles_.back().begin_row == rows_per_tile) {
        const int32_t segment = static_cast<int32_t>(segments_.size());
        tiles_.push_back({begin, begin, segment, segment});
        previous = -1;
      }
      AttentionTile& tile = tiles_.back();
      const int32_t count = std::min(rows.num_rows - done, rows_per_tile - (begin - tile.begin_row));
      const int32_t shared =
          previous < 0 ? 0 : shared_prefix(path_of(batch, previous), path_of(batch, sequence));
      open_segments(batch, sequence, shared, begin, begin + count);
      for (int32_t i = 0; i < count; ++i, ++done) {
        rows_.push_back(rows.first_row + done);
        contexts_.push_back(rows.context_length - (rows.num_rows - 1 - done));
      }
      tile.end_row = begin + count;
      tile.end_segment = static_cast<int32_t>(segments_.size());
      previous = sequence;
    }
  }
}

}  // namespace apar
