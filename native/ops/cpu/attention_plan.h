#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/step_batch.h"

namespace apar {

// One KV node of a tile and the planned rows below it, which share one read of the node's blocks.
struct AttentionSegment {
  int32_t node = 0;            // into StepBatch::nodes
  int32_t first_position = 0;  // of the node's first token, the same on every path through the node
  int32_t begin_row = 0;       // planned rows [begin_row, end_row)
  int32_t end_row = 0;
};

// Planned rows [begin_row, end_row), which are computed together, and the segments that any of them attends
// to. The order of the segments gives every row its tokens by ascending position.
struct AttentionTile {
  int32_t begin_row = 0;
  int32_t end_row = 0;
  int32_t begin_segment = 0;
  int32_t end_segment = 0;
};

// The attention work list of one step. It depends on the shape of the tree, not on the layer or the head.
// Rows are reordered so that the rows below a node are adjacent: these are the "planned rows".
class AttentionPlan {
 public:
  // rows_per_tile >= 1. Allocates nothing while the batch is no larger than an earlier one.
  void build(const StepBatch& batch, int32_t rows_per_tile);

  // For each planned row: its row in the batch, and the number of tokens that it attends to, itself included.
  std::span<const int32_t> rows() const { return rows_; }
  std::span<const int32_t> contexts() const { return contexts_; }
  std::span<const AttentionTile> tiles() const { return tiles_; }
  std::span<const AttentionSegment> segments() const { return segments_; }

 private:
  void sort_sequences(const StepBatch& batch);
  void open_segments(const StepBatch& batch, int32_t sequence, int32_t shared_nodes, int32_t begin_row,
                     int32_t end_row);

  std::vector<int32_t> order_;  // sequences, paths in lexicographic order
  std::vector<int32_t> open_;   // segment of each node on the current path
  std::vector<int32_t> rows_;
  std::vector<int32_t> contexts_;
  std::vector<AttentionTile> tiles_;
  std::vector<AttentionSegment> segments_;
};

}  // namespace apar
