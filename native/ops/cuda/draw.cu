// Draws tokens from logits, a block per row. The twin is core/sampler.cpp: candidates by descending weight,
// smaller ids first among equals; without top-k and top-p by id. Weights are summed as integers, so that the
// order in which threads come does not matter and a row's token never depends on chance.
#include "ops/cuda/draw.h"

#include "ops/cuda/platform.h"

namespace apar::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr int kBuckets = 256;
constexpr int kBucketBits = 8;
constexpr float kUnit =
    1099511627776.0f;  // 2^40: of a weight 1; a vocabulary of 2^20 of them still fits 64 bits
constexpr uint32_t kWholeWarp = 0xffffffffu;

using Weight = unsigned long long;

struct Shared {
  Weight sums[kBuckets];
  Weight warp_sums[kWarps];
  float warp_max[kWarps];
  int32_t warp_ids[kWarps];
  int32_t bucket;
  Weight before;
};

// A row's candidates. Those after (last_key, last_id) in the order of weights have been dropped.
struct Row {
  const float* logits;
  int32_t vocab;
  int32_t never, refused;
  float max;
  float temperature, min_p;
  uint32_t last_key;  // 0 drops none
  int32_t last_id;

  __device__ bool banned(int32_t id) const { return id == never || id == refused; }
  __device__ float weight(int32_t id) const {
    if (banned(id)) return 0;
    const float value = expf((logits[id] - max) / temperature);
    return value >= min_p ? value : 0;
  }
  // Positive floats are ordered like their bits.
  __device__ bool kept(int32_t id, uint32_t key) const {
    return key != 0 && (key > last_key || (key == last_key && id <= last_id));
  }
};

__device__ inline Weight units(float weight) {
  return static_cast<Weight>(weight * kUnit);
}

// Where a running sum over the kept candidates, by descending order(id), first exceeds `target`: that order,
// and the sum before it in *before. amount(id) is 0 for those that do not count. The sum of all exceeds
// target.
template <class OrderOf, class AmountOf>
__device__ uint32_t descend(Shared& shared, int32_t vocab, Weight target, OrderOf order, AmountOf amount,
                            Weight* before) {
  uint32_t prefix = 0;
  Weight passed = 0;
  for (int shift = 32 - kBucketBits; shift >= 0; shift -= kBucketBits) {
    for (int i = threadIdx.x; i < kBuckets; i += kThreads) shared.sums[i] = 0;
    __syncthreads();
    for (int32_t id = threadIdx.x; id < vocab; id += kThreads) {
      const Weight value = amount(id);
      if (value == 0) continue;
      const uint32_t at = order(id);
      const bool below =
          shift + kBucketBits < 32 && (at >> (shift + kBucketBits)) != (prefix >> (shift + kBucketBits));
      if (!below) atomicAdd(&shared.sums[(at >> shift) % kBuckets], value);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int bucket = kBuckets - 1;
      Weight sum = passed;
      while (bucket > 0 && sum + shared.sums[bucket] <= target) sum += shared.sums[bucket--];
      shared.bucket = bucket;
      shared.before = sum;
    }
    __syncthreads();
    prefix |= static_cast<uint32_t>(shared.bucket) << shift;
    passed = shared.before;
    __syncthreads();
  }
  *before = passed;
  return prefix;
}

template <class AmountOf>
__device__ Weight sum_all(Shared& shared, int32_t vocab, AmountOf amount) {
  Weight sum = 0;
  for (int32_t id = threadIdx.x; id < vocab; id += kThreads) sum += amount(id);
  for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(kWholeWarp, sum, mask);
  if (threadIdx.x % 32 == 0) shared.warp_sums[threadIdx.x / 32] = sum;
  __syncthreads();
  Weight total = 0;
  for (const Weight part : shared.warp_sums) total += part;
  __syncthreads();
  return total;
}

// The id of the `index`-th of the kept candidates whose weight's bits are `key`, by ascending id.
__device__ inline int32_t nth_of_key(Shared& shared, const Row& row, uint32_t key, Weight index) {
  Weight before;
  return static_cast<int32_t>(~descend(
      shared, row.vocab, index, [](int32_t id) { return ~static_cast<uint32_t>(id); },
      [&](int32_t id) {
        return static_cast<Weight>(__float_as_uint(row.weight(id)) == key && row.kept(id, key) ? 1 : 0);
      },
      &before));
}

// Drops all behind the candidate at which the sum of amounts, by descending weight, first exceeds target.
template <class AmountOf>
__device__ void drop_behind(Shared& shared, Row& row, Weight target, AmountOf amount) {
  Weight before;
  const uint32_t key = descend(
      shared, row.vocab, target, [&](int32_t id) { return __float_as_uint(row.weight(id)); }, amount,
      &before);
  const Weight each = amount.of(__uint_as_float(key));
  row.last_id = nth_of_key(shared, row, key, (target - before) / each);
  row.last_key = key;
}

struct CountKept {
  const Row& row;
  __device__ Weight operator()(int32_t id) const {
    return row.kept(id, __float_as_uint(row.weight(id))) ? 1 : 0;
  }
  __device__ Weight of(float) const { return 1; }
};
struct WeighKept {
  const Row& row;
  __device__ Weight operator()(int32_t id) const {
    const float weight = row.weight(id);
    return row.kept(id, __float_as_uint(weight)) ? units(weight) : 0;
  }
  __device__ Weight of(float weight) const { return units(weight); }
};

// The likeliest token that is not banned, the smallest id among equals; -1 when none is finite or one logit
// is NaN.
__device__ inline int32_t likeliest(Shared& shared, const Row& row) {
  float best = -INFINITY;
  int32_t best_id = -1;
  bool broken = false;
  for (int32_t id = threadIdx.x; id < row.vocab; id += kThreads) {
    const float logit = row.logits[id];
    broken |= logit != logit;
    if (!row.banned(id) && logit > best) {
      best = logit;
      best_id = id;
    }
  }
  if (broken) {
    best = INFINITY;
    best_id = -1;
  }
  const auto take = [&](float other, int32_t other_id) {
    if (other > best ||
        (other == best && static_cast<uint32_t>(other_id) < static_cast<uint32_t>(best_id) && best_id >= 0) ||
        (other == INFINITY && other_id < 0)) {
      best = other;
      best_id = other_id;
    }
  };
  for (int mask = 16; mask > 0; mask /= 2) {
    const float other = __shfl_xor_sync(kWholeWarp, best, mask);
    const int32_t other_id = __shfl_xor_sync(kWholeWarp, best_id, mask);
    take(other, other_id);
  }
  if (threadIdx.x % 32 == 0) {
    shared.warp_max[threadIdx.x / 32] = best;
    shared.warp_ids[threadIdx.x / 32] = best_id;
  }
  __syncthreads();
  for (int warp = 0; warp < kWarps; ++warp) take(shared.warp_max[warp], shared.warp_ids[warp]);
  __syncthreads();
  return best == INFINITY ? -1 : best_id;
}

__device__ inline int32_t draw_one(Shared& shared, Row row, const TokenDraw& draw) {
  const int32_t best = likeliest(shared, row);
  if (best < 0 || draw.temperature <= 0) return best;
  row.max = row.logits[best];
  row.temperature = draw.temperature;
  row.min_p = draw.min_p;
  row.last_key = 0;
  row.last_id = -1;
  const bool by_weight = draw.top_k > 0 || draw.top_p < 1;
  if (draw.top_k > 0 && static_cast<Weight>(draw.top_k) < sum_all(shared, row.vocab, CountKept{row}))
    drop_behind(shared, row, static_cast<Weight>(draw.top_k) - 1, CountKept{row});
  if (draw.top_p < 1) {
    const auto limit =
        static_cast<Weight>(static_cast<double>(sum_all(shared, row.vocab, WeighKept{row})) * draw.top_p);
    drop_behind(shared, row, limit > 0 ? limit - 1 : 0, WeighKept{row});
  }
  const WeighKept weigh = {row};
  const auto target =
      static_cast<Weight>(draw.uniform * static_cast<double>(sum_all(shared, row.vocab, weigh)));
  Weight before;
  if (!by_weight)
    return static_cast<int32_t>(~descend(
        shared, row.vocab, target, [](int32_t id) { return ~static_cast<uint32_t>(id); }, weigh, &before));
  const uint32_t key = descend(
      shared, row.vocab, target, [&](int32_t id) { return __float_as_uint(row.weight(id)); }, weigh, &before);
  return nth_of_key(shared, row, key, (target - before) / units(__uint_as_float(key)));
}

__global__ void __launch_bounds__(kThreads)
    draw_rows(const float* logits, int32_t vocab, const TokenDraw* draws, DrawnToken* drawn) {
  Shared& shared = *reinterpret_cast<Shared*>(shared_memory());
  const TokenDraw draw = draws[blockIdx.x];
  Row row = {logits + static_cast<int64_t>(blockIdx.x) * vocab, vocab, draw.never, -1, 0, 1, 0, 0, -1};
  DrawnToken result;
  result.token = draw_one(shared, row, draw);
  result.without = result.token;
  if (draw.refusable >= 0) {
    row.refused = draw.refusable;
    result.without = draw_one(shared, row, draw);
    result.refusable_logit = row.logits[draw.refusable];
  }
  result.logit = result.token < 0 ? 0 : row.logits[result.token];
  result.without_logit = result.without < 0 ? 0 : row.logits[result.without];
  if (threadIdx.x == 0) drawn[blockIdx.x] = result;
}

}  // namespace

void draw_tokens(Stream stream, const float* logits, int32_t rows, int32_t vocab, const TokenDraw* draws,
                 DrawnToken* drawn) {
  launch<draw_rows>(stream, {static_cast<uint32_t>(rows)}, kThreads, sizeof(Shared), logits, vocab, draws,
                    drawn);
}

}  // namespace apar::cuda
