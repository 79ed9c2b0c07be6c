#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ops/ops.h"

namespace apar {

// [begin, end)
struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
};

// Which part of a model each of several devices ("ranks") holds: Megatron's cut (arXiv 1909.08053). Query
// heads, the MLP's inner elements and the vocabulary are divided evenly; KV heads likewise, or, where there
// are fewer than ranks, each is held by several; everything else by all. A rank's query heads always find
// their KV head on their own rank.
class ShardPlan {
 public:
  // Throws Error{invalid_config} naming the number that cannot be divided.
  ShardPlan(const OpsConfig& whole, int32_t ranks);

  int32_t ranks() const { return ranks_; }
  // Elements of an axis, Axis::whole excepted.
  int64_t size(Axis axis) const;
  // The part that a rank holds of `size` elements along an axis. Throws Error{internal} when the axis has
  // another size.
  Range part(Axis axis, int64_t size, int32_t rank) const;
  // What a rank's own device is opened with.
  OpsConfig config_of(int32_t rank) const;

 private:
  OpsConfig whole_;
  int32_t ranks_;
};

// A part of a matrix as a matrix of its own: where it lies if whole rows are wanted, else a copy.
struct MatrixPart {
  Matrix matrix;
  std::vector<std::byte> copy;  // the matrix's data if not empty
};
MatrixPart part_of(const Matrix& host, Range rows, Range cols);

}  // namespace apar
