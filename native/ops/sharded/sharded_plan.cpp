#include "ops/sharded/sharded_plan.h"

#include <cstring>
#include <string>

#include "common/convert.h"
#include "common/error.h"

namespace apar {
namespace {

void require(bool good, const char* what, int64_t size, int32_t ranks) {
  if (good) return;
  throw Error(ErrorCode::invalid_config, std::string(what) + " (" + std::to_string(size) +
                                             ") cannot be divided among " + std::to_string(ranks) +
                                             " devices");
}

}  // namespace

ShardPlan::ShardPlan(const OpsConfig& whole, int32_t ranks) : whole_(whole), ranks_(ranks) {
  if (ranks < 1) throw Error(ErrorCode::invalid_config, "a model needs at least one device");
  require(whole.num_heads % ranks == 0, "num_heads", whole.num_heads, ranks);
  const int32_t kv_heads = whole.num_kv_heads;
  require(kv_heads % ranks == 0 || ranks % kv_heads == 0, "num_kv_heads", kv_heads, ranks);
  require(whole.intermediate_size % ranks == 0, "intermediate_size", whole.intermediate_size, ranks);
  require(whole.vocab_size >= ranks, "vocab_size", whole.vocab_size, ranks);
}

int64_t ShardPlan::size(Axis axis) const {
  switch (axis) {
    case Axis::heads:
      return int64_t{whole_.num_heads} * whole_.head_dim;
    case Axis::kv_heads:
      return int64_t{whole_.num_kv_heads} * whole_.head_dim;
    case Axis::intermediate:
      return whole_.intermediate_size;
    case Axis::vocabulary:
      return whole_.vocab_size;
    case Axis::whole:
      break;
  }
  throw Error(ErrorCode::internal, "the axis `whole` has no size");
}

Range ShardPlan::shard(Axis axis, int64_t size, int32_t rank) const {
  if (axis == Axis::whole) return {0, size};
  if (size != this->size(axis))
    throw Error(ErrorCode::internal, "an axis of " + std::to_string(this->size(axis)) +
                                         " elements is used with " + std::to_string(size));
  if (axis == Axis::kv_heads && whole_.num_kv_heads < ranks_) {
    const int32_t head = rank / (ranks_ / whole_.num_kv_heads);
    return {int64_t{head} * whole_.head_dim, int64_t{head + 1} * whole_.head_dim};
  }
  // Only the shards of the vocabulary may differ in size, by one element.
  return {size * rank / ranks_, size * (rank + 1) / ranks_};
}

OpsConfig ShardPlan::config_of(int32_t rank) const {
  const auto local = [&](Axis axis) { return static_cast<int32_t>(shard(axis, size(axis), rank).size()); };
  OpsConfig config = whole_;
  config.num_heads = local(Axis::heads) / whole_.head_dim;
  config.num_kv_heads = local(Axis::kv_heads) / whole_.head_dim;
  config.intermediate_size = local(Axis::intermediate);
  config.vocab_size = local(Axis::vocabulary);
  return config;
}

MatrixShard shard_of(const Matrix& host, Range rows, Range cols) {
  MatrixShard shard;
  shard.matrix = row_slice(host, rows.begin, rows.size());
  if (cols.size() == host.cols) return shard;
  const int32_t block = block_size(host.dtype).elements;
  const bool whole_blocks = cols.begin % block == 0 && cols.size() % block == 0;
  const DType dtype = whole_blocks ? host.dtype : DType::f32;
  const int64_t row_bytes = stored_bytes(dtype, cols.size());
  shard.copy.resize(static_cast<size_t>(rows.size() * row_bytes));
  std::vector<float> scratch;
  for (int64_t row = 0; row < rows.size(); ++row) {
    const Matrix stored = row_slice(shard.matrix, row, 1);
    const Matrix source = whole_blocks ? stored : with_plain_elements(stored, scratch);
    std::memcpy(shard.copy.data() + row * row_bytes,
                static_cast<const std::byte*>(source.data) + stored_bytes(dtype, cols.begin),
                static_cast<size_t>(row_bytes));
  }
  const bool whole_groups = cols.begin % LongGroups::kInputs == 0;
  shard.matrix = {
      shard.copy.data(),
      dtype,
      rows.size(),
      cols.size(),
      shard.matrix.row_scales,
      whole_groups ? shard.matrix.groups.from(0, cols.begin / LongGroups::kInputs) : LongGroups{}};
  return shard;
}

}  // namespace apar
