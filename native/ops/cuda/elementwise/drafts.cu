#include "ops/cuda/elementwise/drafts.h"

#include "ops/cuda/device/intrinsics.cuh"

namespace apar::cuda {
namespace {

constexpr int32_t kThreads = 256;
constexpr int32_t kTopThreads = 512;
constexpr int32_t kTopWarps = kTopThreads / 32;

__device__ inline float widened(float value) {
  return value;
}
__device__ inline float widened(uint16_t bf16) {
  return bf16_float(bf16);
}

template <class Element>
__global__ void __launch_bounds__(kThreads)
    pick(const int32_t* row_ids, int32_t width, const Element* x, float* out, uint16_t* out_bf16) {
  const int64_t from = static_cast<int64_t>(row_ids[blockIdx.x]) * width;
  const int64_t to = static_cast<int64_t>(blockIdx.x) * width;
  for (int32_t i = threadIdx.x; i < width; i += kThreads) {
    const float value = widened(x[from + i]);
    out[to + i] = value;
    out_bf16[to + i] = bf16_bits(value);
  }
}

__global__ void __launch_bounds__(kThreads)
    add_elements(int64_t count, const float* x, const float* y, float* out, uint16_t* out_bf16) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const float value = x[i] + y[i];
  out[i] = value;
  out_bf16[i] = bf16_bits(value);
}

__global__ void __launch_bounds__(kThreads)
    add_silu_elements(int64_t count, const float* x, const float* y, float* out, uint16_t* out_bf16) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const float value = x[i] + y[i] / (1.0f + expf(-y[i]));
  out[i] = value;
  out_bf16[i] = bf16_bits(value);
}

uint32_t blocks_of(int64_t elements) {
  return static_cast<uint32_t>((elements + kThreads - 1) / kThreads);
}

struct Candidate {
  int32_t token;  // -1: none
  float logit;
};

struct Shared {
  Candidate best[kTopWarps];
  float sums[kTopWarps];
};

// The order of candidates: descending logits, equal ones by ascending token. No candidate is last.
__device__ inline bool precedes(const Candidate& a, const Candidate& b) {
  if (a.token < 0 || b.token < 0) return b.token < 0 && a.token >= 0;
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

// The first of this thread's tokens that comes after `previous`, or the first of all if that is none.
__device__ inline Candidate next_of_thread(const float* logits, int32_t count, const Candidate& previous) {
  Candidate best = {-1, -INFINITY};
  for (int32_t token = threadIdx.x; token < count; token += kTopThreads) {
    const Candidate one = {token, logits[token]};
    const bool comes_after = previous.token < 0 || precedes(previous, one);
    if (one.logit > -INFINITY && comes_after && precedes(one, best)) best = one;
  }
  return best;
}

__device__ inline Candidate first_of_block(Shared& shared, Candidate best) {
  for (int mask = 16; mask > 0; mask /= 2) {
    const Candidate other = {__shfl_xor_sync(kFullWarp, best.token, mask),
                             __shfl_xor_sync(kFullWarp, best.logit, mask)};
    if (precedes(other, best)) best = other;
  }
  if (threadIdx.x % 32 == 0) shared.best[threadIdx.x / 32] = best;
  __syncthreads();
  for (int warp = 0; warp < kTopWarps; ++warp)
    if (precedes(shared.best[warp], best)) best = shared.best[warp];
  __syncthreads();
  return best;
}

// In an order that depends on `count` alone. NaN if a logit is NaN or infinite.
__device__ inline float log_sum(Shared& shared, const float* logits, int32_t count, float max) {
  float sum = 0;
  for (int32_t token = threadIdx.x; token < count; token += kTopThreads)
    if (logits[token] != -INFINITY) sum += expf(logits[token] - max);
  for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(kFullWarp, sum, mask);
  if (threadIdx.x % 32 == 0) shared.sums[threadIdx.x / 32] = sum;
  __syncthreads();
  float total = 0;
  for (int warp = 0; warp < kTopWarps; ++warp) total += shared.sums[warp];
  return max + logf(total);
}

// Every thread knows the best of its own tokens, and only the thread whose token was taken looks for its next
// one. So the logits are read little more than twice, whatever top_k is.
__global__ void __launch_bounds__(kTopThreads) top_rows(const float* all_logits, TopTokens wanted) {
  Shared& shared = *reinterpret_cast<Shared*>(shared_memory());
  const float* const logits = all_logits + static_cast<int64_t>(blockIdx.x) * wanted.stride;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * wanted.top_k;
  Candidate mine = next_of_thread(logits, wanted.count, {-1, 0});
  float max = -INFINITY;
  for (int32_t i = 0; i < wanted.top_k; ++i) {
    const Candidate best = first_of_block(shared, mine);
    if (i == 0) max = best.logit;
    if (threadIdx.x == 0) {
      wanted.tokens[first + i] = best.token;
      wanted.logits[first + i] = best.logit;
    }
    if (best.token >= 0 && best.token == mine.token) mine = next_of_thread(logits, wanted.count, best);
  }
  const float sum = log_sum(shared, logits, wanted.count, max);
  if (threadIdx.x == 0) wanted.log_sums[blockIdx.x] = sum;
}

}  // namespace

void pick_rows(Stream stream, const int32_t* row_ids, int32_t rows, int32_t width, const float* x, float* out,
               uint16_t* out_bf16) {
  launch<pick<float>>(stream, {static_cast<uint32_t>(rows)}, kThreads, 0, row_ids, width, x, out, out_bf16);
}

void pick_embeddings(Stream stream, const int32_t* tokens, int32_t rows, const Matrix& table, float* out,
                     uint16_t* out_bf16) {
  const Grid grid = {static_cast<uint32_t>(rows)};
  const auto width = static_cast<int32_t>(table.cols);
  if (table.dtype == DType::f32)
    launch<pick<float>>(stream, grid, kThreads, 0, tokens, width, static_cast<const float*>(table.data), out,
                        out_bf16);
  else
    launch<pick<uint16_t>>(stream, grid, kThreads, 0, tokens, width, static_cast<const uint16_t*>(table.data),
                           out, out_bf16);
}

void add(Stream stream, int64_t count, const float* x, const float* y, float* out, uint16_t* out_bf16) {
  launch<add_elements>(stream, {blocks_of(count)}, kThreads, 0, count, x, y, out, out_bf16);
}

void add_silu(Stream stream, int64_t count, const float* x, const float* y, float* out, uint16_t* out_bf16) {
  launch<add_silu_elements>(stream, {blocks_of(count)}, kThreads, 0, count, x, y, out, out_bf16);
}

void top_tokens(Stream stream, const float* logits, int32_t rows, const TopTokens& wanted) {
  launch<top_rows>(stream, {static_cast<uint32_t>(rows)}, kTopThreads, sizeof(Shared), logits, wanted);
}

}  // namespace apar::cuda
