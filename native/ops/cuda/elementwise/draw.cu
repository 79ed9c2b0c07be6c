// Samples tokens from logits, with a block per row. The rules are those of core/sampler.cpp: candidates are
// ordered by descending weight, equal ones by ascending id; without top-k and top-p by id alone. Weights are
// summed as integers, so that the order in which threads add them does not change the result.
#include "ops/cuda/elementwise/draw.h"

#include "ops/cuda/device/intrinsics.cuh"

namespace apar::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr int kBucketBits = 10;
constexpr uint32_t kBuckets = 1 << kBucketBits;
static_assert(kBuckets == 2 * kThreads);
constexpr int kKeyBits = 30;       // bits of a weight as f32, which is at most 1
constexpr int kMinEqualLanes = 4;  // with fewer lanes of one bucket, adding their values first does not pay
constexpr float kFixedPointOne = 1099511627776.0f;  // 2^40; the sum of 2^20 weights of 1 still fits 64 bits

using Weight = unsigned long long;  // fixed point

struct Shared {
  Weight sums[kBuckets];
  Weight warp_sums[kWarps];
  float warp_max[kWarps];
  int32_t warp_ids[kWarps];
  uint32_t bucket;
  Weight before;
};

// The candidates of a row. The candidates after (last_key, last_id) in the order of weights have been
// removed.
struct Row {
  const float* logits;
  int32_t vocab;
  int32_t never, refused;  // masked token ids, or -1
  float max;               // the largest logit that is not masked
  float temperature, min_p;
  uint32_t last_key;  // 0 if no candidate has been removed
  int32_t last_id;

  __device__ bool is_masked(int32_t id) const { return id == never || id == refused; }
  __device__ float weight(int32_t id) const {
    if (is_masked(id)) return 0;
    const float value = expf((logits[id] - max) / temperature);
    return value >= min_p ? value : 0;
  }
  // `key` is the weight's bits: positive floats are ordered like their bits.
  __device__ bool kept(int32_t id, uint32_t key) const {
    return key != 0 && (key > last_key || (key == last_key && id <= last_id));
  }
};

__device__ inline Weight fixed_point(float weight) {
  return static_cast<Weight>(weight * kFixedPointOne);
}

__device__ inline Weight warp_sum(Weight value) {
  for (int mask = 16; mask > 0; mask /= 2) value += __shfl_xor_sync(kFullWarp, value, mask);
  return value;
}

// The inclusive prefix sum over the lanes of a warp.
__device__ inline Weight warp_running_sum(Weight value) {
  const uint32_t lane = threadIdx.x % 32;
  for (uint32_t step = 1; step < 32; step *= 2) {
    const Weight other = __shfl_sync(kFullWarp, value, static_cast<int>((lane - step) % 32));
    if (lane >= step) value += other;
  }
  return value;
}

// The exclusive prefix sum over the threads of the block.
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

// sums[bucket] += value, executed by a whole warp. A 64-bit atomic addition in shared memory is a loop that
// serialises lanes with the same bucket, and equal weights put most lanes into one bucket. So the lanes that
// have the bucket of the first lane add their values within the warp first.
__device__ inline void add_to_buckets(Weight* sums, uint32_t bucket, Weight value) {
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t lanes = __ballot_sync(kFullWarp, value != 0);
  if (lanes == 0) return;
  const int first = __ffs(static_cast<int>(lanes)) - 1;
  const uint32_t first_bucket = __shfl_sync(kFullWarp, bucket, first);
  const bool alike = value != 0 && bucket == first_bucket;
  if (__popc(__ballot_sync(kFullWarp, alike)) >= kMinEqualLanes) {
    const Weight sum = warp_sum(alike ? value : 0);
    if (alike) value = static_cast<int>(lane) == first ? sum : 0;
  }
  if (value != 0) atomicAdd(&sums[bucket], value);
}

// Radix select: returns the bits of the weight at which the running sum of amounts, by descending weight,
// first exceeds `target`. `before` becomes the sum before the candidates with this weight. amount(id, weight)
// is 0 for ids that do not count. The sum of all amounts must exceed `target`.
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
    // Each thread handles two buckets, in descending order.
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

// Returns the id at which the running sum of amounts, by ascending id, first exceeds `target`. The sum of all
// amounts must exceed `target`. Each round narrows the range to the part of one warp.
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

// The id of the `index`-th kept candidate, by ascending id, whose weight has the bits `key`.
__device__ inline int32_t nth_of_key(Shared& shared, const Row& row, uint32_t key, Weight index) {
  return find_id(shared, row.vocab, index, [&](int32_t id) {
    return static_cast<Weight>(__float_as_uint(row.weight(id)) == key && row.kept(id, key) ? 1 : 0);
  });
}

// Removes all candidates after the one at which the sum of amounts, by descending weight, first exceeds
// `target`.
template <class AmountOf>
__device__ void remove_after(Shared& shared, Row& row, Weight target, AmountOf amount) {
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
    return row.kept(id, __float_as_uint(weight)) ? fixed_point(weight) : 0;
  }
  __device__ Weight operator()(int32_t id) const { return (*this)(id, row.weight(id)); }
  __device__ Weight of(float weight) const { return fixed_point(weight); }
};

// The token with the largest logit that is not masked, the smallest id among equals. Returns -1 if no such
// logit is finite or any logit is NaN.
__device__ inline int32_t argmax(Shared& shared, const Row& row) {
  float best = -INFINITY;
  int32_t best_id = -1;
  bool has_nan = false;
  for (int32_t id = threadIdx.x; id < row.vocab; id += kThreads) {
    const float logit = row.logits[id];
    has_nan |= logit != logit;
    if (!row.is_masked(id) && logit > best) {
      best = logit;
      best_id = id;
    }
  }
  // A NaN is passed on as infinity with id -1, which wins every comparison.
  if (has_nan) {
    best = INFINITY;
    best_id = -1;
  }
  const auto update = [&](float other, int32_t other_id) {
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
    update(other, other_id);
  }
  if (threadIdx.x % 32 == 0) {
    shared.warp_max[threadIdx.x / 32] = best;
    shared.warp_ids[threadIdx.x / 32] = best_id;
  }
  __syncthreads();
  for (int warp = 0; warp < kWarps; ++warp) update(shared.warp_max[warp], shared.warp_ids[warp]);
  __syncthreads();
  return best == INFINITY ? -1 : best_id;
}

__device__ inline int32_t draw_one(Shared& shared, Row row, const TokenDraw& draw) {
  const int32_t best = argmax(shared, row);
  if (best < 0 || draw.temperature <= 0) return best;
  row.max = row.logits[best];
  row.temperature = draw.temperature;
  row.min_p = draw.min_p;
  row.last_key = 0;
  row.last_id = -1;
  const bool by_weight = draw.top_k > 0 || draw.top_p < 1;
  if (draw.top_k > 0 && static_cast<Weight>(draw.top_k) < sum_all(shared, row.vocab, CountKept{row}))
    remove_after(shared, row, static_cast<Weight>(draw.top_k) - 1, CountKept{row});
  if (draw.top_p < 1) {
    const auto limit =
        static_cast<Weight>(static_cast<double>(sum_all(shared, row.vocab, WeighKept{row})) * draw.top_p);
    remove_after(shared, row, limit > 0 ? limit - 1 : 0, WeighKept{row});
  }
  const WeighKept weigh = {row};
  // `target` is less than the sum: uniform is less than 1 by at least 2^-53, which exceeds the rounding
  // error.
  const auto target =
      static_cast<Weight>(draw.uniform * static_cast<double>(sum_all(shared, row.vocab, weigh)));
  if (!by_weight) return find_id(shared, row.vocab, target, weigh);
  Weight before;
  const uint32_t key = find_weight(shared, row, target, weigh, &before);
  return nth_of_key(shared, row, key, (target - before) / fixed_point(__uint_as_float(key)));
}

__global__ void __launch_bounds__(kThreads, 1)
    draw_rows(const float* logits, int32_t vocab, const TokenDraw* draws, DrawnToken* drawn) {
  Shared& shared = *reinterpret_cast<Shared*>(shared_memory());
  const TokenDraw draw = draws[blockIdx.x];
  Row row = {logits + static_cast<int64_t>(blockIdx.x) * vocab, vocab, draw.masked, -1, 0, 1, 0, 0, -1};
  DrawnToken result;
  // Not unrolled: two copies of the code would use twice the registers.
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
