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

// Which shard of a model each of several devices ("ranks") holds, as in Megatron-LM (arXiv 1909.08053). Query
// heads, the MLP's intermediate elements and the vocabulary are divided evenly. So are KV heads; where there
// are fewer KV heads than ranks, several ranks hold the same one. All ranks hold everything else. A rank
// always holds the KV heads of its query heads.
class ShardPlan {
 public:
  // Throws Error{invalid_config} that names the number which cannot be divided.
  ShardPlan(const OpsConfig& whole, int32_t ranks);

  int32_t ranks() const { return ranks_; }
  // The number of elements of an axis other than Axis::whole.
  int64_t size(Axis axis) const;
  // The shard that a rank holds of `size` elements along an axis. Throws Error{internal} when the axis has
  // another size.
  Range shard(Axis axis, int64_t size, int32_t rank) const;
  // The configuration of a rank's own device.
  OpsConfig config_of(int32_t rank) const;

 private:
  OpsConfig whole_;
  int32_t ranks_;
};

// A shard of a matrix as a matrix. Whole rows are referred to in place; otherwise the shard is a copy.
struct MatrixShard {
  Matrix matrix;
  std::vector<std::byte> copy;  // the data of `matrix`, or empty if that refers to the host's matrix
};
MatrixShard shard_of(const Matrix& host, Range rows, Range cols);

}  // namespace apar
