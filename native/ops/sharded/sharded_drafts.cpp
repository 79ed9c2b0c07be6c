// What ShardedOps does for draft heads and for the tokens that a verified draft leaves behind.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/sharded/sharded_ops.h"

namespace apar {
namespace {

// log(sum(exp(part))). NaN if one of them is.
float log_sum_of(std::span<const float> parts) {
  float max = -std::numeric_limits<float>::infinity();
  for (const float part : parts) {
    if (std::isnan(part)) return part;
    max = std::max(max, part);
  }
  if (std::isinf(max)) return max;
  float sum = 0;
  for (const float part : parts) sum += std::exp(part - max);
  return max + std::log(sum);
}

}  // namespace

void ShardedOps::pick_rows(const float* x, std::span<const int32_t> row_ids, int32_t width, float* out) {
  threads_.post([this, x = &shards(x), ids = std::vector(row_ids.begin(), row_ids.end()), width,
                 out = &shards(out)](int32_t rank) {
    ops(rank).pick_rows(x->on(rank), ids, static_cast<int32_t>(local(x->axis, width, rank)), out->on(rank));
  });
}

void ShardedOps::pick_embeddings(const Matrix& table, std::span<const int32_t> tokens, float* out) {
  threads_.post([this, table, tables = &shards(table.data), ids = std::vector(tokens.begin(), tokens.end()),
                 out = &shards(out)](int32_t rank) {
    ops(rank).pick_embeddings({tables->on(rank), table.dtype, table.rows, table.cols}, ids, out->on(rank));
  });
}

void ShardedOps::add(const float* x, const float* y, int32_t rows, int32_t width, float* out) {
  threads_.post([=, this, x = &shards(x), y = &shards(y), out = &shards(out)](int32_t rank) {
    ops(rank).add(x->on(rank), y->on(rank), rows, width, out->on(rank));
  });
}

void ShardedOps::add_silu(const float* x, const float* y, int32_t rows, int32_t width, float* out,
                          int32_t first_row) {
  threads_.post([=, this, x = &shards(x), y = &shards(y), out = &shards(out)](int32_t rank) {
    ops(rank).add_silu(x->on(rank), y->on(rank), rows, width, out->on(rank), first_row);
  });
}

// Every rank finds the best tokens of its shard of the vocabulary.
void ShardedOps::top_tokens(const float* x, int32_t rows, std::span<const Linear> heads, int32_t vocab,
                            int32_t top_k, std::span<TokenLogit> top, std::span<float> log_sums) {
  struct Best {
    std::vector<TokenLogit> top;
    std::vector<float> log_sums;
  };
  std::vector<Best> found(ranks_.size());
  const auto k = static_cast<size_t>(top_k);
  const Shards& inputs = shards(x);
  on_all([&](int32_t rank) {
    std::vector<Linear> mine;
    for (const Linear& head : heads)
      mine.push_back(static_cast<const ShardedLinear*>(head.data)->shards[static_cast<size_t>(rank)]);
    const Range tokens = plan_.shard(Axis::vocabulary, plan_.size(Axis::vocabulary), rank);
    const int64_t known = std::clamp<int64_t>(vocab - tokens.begin, 0, tokens.size());
    Best& best = found[static_cast<size_t>(rank)];
    best.top.resize(top.size());
    best.log_sums.resize(log_sums.size());
    ops(rank).top_tokens(inputs.on(rank), rows, mine, static_cast<int32_t>(known), top_k, best.top,
                         best.log_sums);
    for (TokenLogit& each : best.top)
      if (each.token >= 0) each.token += static_cast<int32_t>(tokens.begin);
  });
  std::vector<TokenLogit> all(ranks_.size() * k);
  std::vector<float> parts(ranks_.size());
  for (size_t row = 0; row < log_sums.size(); ++row) {
    for (size_t rank = 0; rank < ranks_.size(); ++rank) {
      std::copy_n(found[rank].top.begin() + static_cast<ptrdiff_t>(row * k), k,
                  all.begin() + static_cast<ptrdiff_t>(rank * k));
      parts[rank] = found[rank].log_sums[row];
    }
    // Ranks hold the tokens in ascending order: of equal logits the first one stays first.
    std::ranges::stable_sort(all, std::ranges::greater{}, &TokenLogit::logit);
    std::copy_n(all.begin(), k, top.begin() + static_cast<ptrdiff_t>(row * k));
    log_sums[row] = log_sum_of(parts);
  }
}

void ShardedOps::copy_slots(std::span<const SlotCopy> copies) {
  threads_.post([this, copies = std::vector(copies.begin(), copies.end())](int32_t rank) {
    ops(rank).copy_slots(copies);
  });
}

}  // namespace apar
