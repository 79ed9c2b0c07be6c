// Draws tokens from logits, a block per row. The twin is core/sampler.cpp: candidates by descending weight,
// smaller ids first among equals; without top-k and top-p by id. Weights are summed as integers, so that the
// order in which threads come does not matter and a row's token never depends on chance.
#include "ops/cuda/elementwise/draw.h"

#include "ops/cuda/device/intrinsics.cuh"

namespace apar::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr int kBucketBits = 10;
constexpr uint32_t kBuckets = 1 << kBucketBits;
static_assert(kBuckets == 2 * kThreads);
constexpr int kKeyBits = 30;  // of a weight, which is at most 1
constexpr int kFewLanes = 4;  // whose sum is not worth the instructions
constexpr float kUnit =
    1099511627776.0f;  // 2^40: of a weight 1; a vocabulary of 2^20 of them still fits 64 bits

using Weight = unsigned long long;

struct Shared {
  Weight sums[kBuckets];
  Weight warp_sums[kWarps];
  float warp_max[kWarps];
  int32_t warp_ids[kWarps];
  uint32_t bucket;
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

__device__ inline Weight warp_sum(Weight value) {
  for (int mask = 16; mask > 0; mask /= 2) value += __shfl_xor_sync(kFullWarp, value, mask);
  return value;
}

// The sum over the lanes up to this one.
__device__ inline Weight warp_running_sum(Weight value) {
  const uint32_t lane = threadIdx.x % 32;
  for (uint32_t step = 1; step < 32; step *= 2) {
    const Weight other = __shfl_sync(kFullWarp, value, static_cast<int>((lane - step) % 32));
    if (lane >= step) value += other;
  }
  return value;
}

// The sum over the threads before this one.
__device__ inline Weight sum_before(Shared& shared, Weight value) {
  const Weight upto = warp_running_sum(value);
  if (threadIdx.x % 32 == 31) shared.warp_sums[threadIdx.x / 32] = upto;
  __syncthreads();
  Weight before = upto - value;
  for (uint32_t warp = 0; warp < threadIdx.x / 32; ++warp) before += shared.warp_sums[warp];
  return before;
}

template <class AmountOf>
__device__ Weight sum_all(Shared& shared, int32_t vocab, AmountOf amount) {
  Weight sum = 0;
  for (int32_t id = threadIdx.x; id < vocab; id += kThreads) sum += amount(id);
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) shared.warp_sums[threadIdx.x / 32] = sum;
  __syncthreads();
  Weight total = 0;
  for (const Weight part : shared.warp_sums) total += part;
  __syncthreads();
  return total;
}

// sums[bucket] += value, by a whole warp. The processor adds 64 bits in shared memory one lane after the
// other, again and again while others come between: lanes of one bucket, most of them where weights are
// alike, add up among themselves first.
__device__ inline void add_to_buckets(Weight* sums, uint32_t bucket, Weight value) {
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t lanes = __ballot_sync(kFullWarp, value != 0);
  if (lanes == 0) return;
  const int first = __ffs(static_cast<int>(lanes)) - 1;
  const uint32_t first_bucket = __shfl_sync(kFullWarp, bucket, first);
  const bool alike = value != 0 && bucket == first_bucket;
  if (__popc(__ballot_sync(kFullWarp, alike)) >= kFewLanes) {
    const Weight sum = warp_sum(alike ? value : 0);
    if (alike) value = static_cast<int>(lane) == first ? sum : 0;
  }
  if (value != 0) atomicAdd(&sums[bucket], value);
}

// The weight, as its bits, at which a running sum of amounts by descending weight first exceeds `target`, and
// the sum before the candidates of this weight. amount(id, bits) is 0 for those that do not count. The sum
// of all exceeds target.
template <class AmountOf>
__device__ uint32_t find_weight(Shared& shared, const Row& row, Weight target, AmountOf amount,
                                Weight* before) {
  uint32_t prefix = 0;
  Weight passed = 0;
  for (int shift = kKeyBits - kBucketBits; shift >= 0; shift -= kBucketBits) {
    for (uint32_t i = threadIdx.x; i < kBuckets; i += kThreads) shared.sums[i] = 0;
    __syncthreads();
    for (int32_t first = 0; first < row.vocab; first += kThreads) {
      const auto id = first + static_cast<int32_t>(threadIdx.x);
      const float weight = id < row.vocab ? row.weight(id) : 0;
      const uint32_t key = __float_as_uint(weight);
      const bool below = (key >> shift) / kBuckets == (prefix >> shift) / kBuckets;
      add_to_buckets(shared.sums, (key >> shift) % kBuckets, below ? amount(id, weight) : 0);
    }
    __syncthreads();
    // A thread has two buckets, in descending order.
    const uint32_t high = kBuckets - 1 - 2 * threadIdx.x, low = high - 1;
    const Weight high_sum = shared.sums[high], sum = high_sum + shared.sums[low];
    const Weight so_far = passed + sum_before(shared, sum);
    if (so_far <= target && target < so_far + sum) {
      const bool is_high = target < so_far + high_sum;
      shared.bucket = is_high ? high : low;
      shared.before = is_high ? so_far : so_far + high_sum;
    }
    __syncthreads();
    prefix |= shared.bucket << shift;
    passed = shared.before;
  }
  *before = passed;
  return prefix;
}

// The id at which a running sum of amounts by ascending id first exceeds `target`; the sum of all does. Each
// round leaves the part of one warp.
template <class AmountOf>
__device__ int32_t find_id(Shared& shared, int32_t vocab, Weight target, AmountOf amount) {
  const auto lane = static_cast<int32_t>(threadIdx.x % 32), warp = static_cast<int32_t>(threadIdx.x / 32);
  int32_t begin = 0, end = vocab;
  while (end - begin > 32) {
    const int32_t part = (end - begin + kThreads - 1) / kThreads * 32;
    const int32_t part_end = min(begin + (warp + 1) * part, end);
    Weight sum = 0;
    for (int32_t id = begin + warp * part + lane; id < part_end; id += 32) sum += amount(id);
    sum = warp_sum(sum);
    if (lane == 0) shared.warp_sums[warp] = sum;
    __syncthreads();
    int32_t chosen = 0;
    while (chosen < kWarps - 1 && target >= shared.warp_sums[chosen]) target -= shared.warp_sums[chosen++];
    __syncthreads();
    begin += chosen * part;
    end = min(begin + part, end);
  }
  const Weight upto = warp_running_sum(begin + lane < end ? amount(begin + lane) : 0);
  return begin + __popc(__ballot_sync(kFullWarp, upto <= target));
}

// The id of the `index`-th of the kept candidates whose weight's bits are `key`, by ascending id.
__device__ inline int32_t nth_of_key(Shared& shared, const Row& row, uint32_t key, Weight index) {
  return find_id(shared, row.vocab, index, [&](int32_t id) {
    return static_cast<Weight>(__float_as_uint(row.weight(id)) == key && row.kept(id, key) ? 1 : 0);
  });
}

// Drops all behind the candidate at which the sum of amounts, by descending weight, first exceeds target.
template <class AmountOf>
__device__ void drop_behind(Shared& shared, Row& row, Weight target, AmountOf amount) {
  Weight before;
  const uint32_t key = find_weight(shared, row, target, amount, &before);
  const Weight each = amount.of(__uint_as_float(key));
  row.last_id = nth_of_key(shared, row, key, (target - before) / each);
  row.last_key = key;
}

struct CountKept {
  const Row& row;
  __device__ Weight operator()(int32_t id, float weight) const {
    return row.kept(id, __float_as_uint(weight)) ? 1 : 0;
  }
  __device__ Weight operator()(int32_t id) const { return (*this)(id, row.weight(id)); }
  __device__ Weight of(float) const { return 1; }
};
struct WeighKept {
  const Row& row;
  __device__ Weight operator()(int32_t id, float weight) const {
    return row.kept(id, __float_as_uint(weight)) ? units(weight) : 0;
  }
  __device__ Weight operator()(int32_t id) const { return (*this)(id, row.weight(id)); }
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
    const float other = __shfl_xor_sync(kFullWarp, best, mask);
    const int32_t other_id = __shfl_xor_sync(kFullWarp, best_id, mask);
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
  // Less than the sum: uniform is less than 1 by 2^-53 at least, which is more than what rounding adds.
  const auto target =
      static_cast<Weight>(draw.uniform * static_cast<double>(sum_all(shared, row.vocab, weigh)));
  if (!by_weight) return find_id(shared, row.vocab, target, weigh);
  Weight before;
  const uint32_t key = find_weight(shared, row, target, weigh, &before);
  return nth_of_key(shared, row, key, (target - before) / units(__uint_as_float(key)));
}

__global__ void __launch_bounds__(kThreads, 1)
    draw_rows(const float* logits, int32_t vocab, const TokenDraw* draws, DrawnToken* drawn) {
  Shared& shared = *reinterpret_cast<Shared*>(shared_memory());
  const TokenDraw draw = draws[blockIdx.x];
  Row row = {logits + static_cast<int64_t>(blockIdx.x) * vocab, vocab, draw.masked, -1, 0, 1, 0, 0, -1};
  DrawnToken result;
  // One copy of the code: two would take twice the registers.
#pragma unroll 1
  for (int refused = 0; refused < 2; ++refused) {
    if (refused == 1 && draw.maybe_masked < 0) break;
    if (refused == 1) row.refused = draw.maybe_masked;
    result.token_if_masked = draw_one(shared, row, draw);
    if (refused == 0) result.token = result.token_if_masked;
  }
  if (draw.maybe_masked >= 0) result.maybe_masked_logit = row.logits[draw.maybe_masked];
  result.logit = result.token < 0 ? 0 : row.logits[result.token];
  result.logit_if_masked = result.token_if_masked < 0 ? 0 : row.logits[result.token_if_masked];
  if (threadIdx.x == 0) drawn[blockIdx.x] = result;
}

}  // namespace

void draw_tokens(Stream stream, const float* logits, int32_t rows, int32_t vocab, const TokenDraw* draws,
                 DrawnToken* drawn) {
  launch<draw_rows>(stream, {static_cast<uint32_t>(rows)}, kThreads, sizeof(Shared), logits, vocab, draws,
                    drawn);
}

}  // namespace apar::cuda
