// Rotary embedding, and the KV pool's writes. A block takes one head of one row: query heads first, then KV
// heads.
#include "ops/cuda/device/float8.cuh"
#include "ops/cuda/elementwise/elementwise.h"
#include "ops/cuda/step/step_access.cuh"

namespace apar::cuda {
namespace {

constexpr uint32_t kMaxHeadThreads = 256;
constexpr uint32_t kMaxHeadWarps = kMaxHeadThreads / 32;

__device__ inline void rotate(float* head, int32_t i, int32_t half, float cos, float sin) {
  const float a = head[i], b = head[i + half];
  head[i] = a * cos - b * sin;
  head[i + half] = b * cos + a * sin;
}

__device__ inline void rotate_head(float* head, int32_t half, const float* angles) {
  for (int32_t i = threadIdx.x; i < half; i += blockDim.x)
    rotate(head, i, half, angles[i * 2], angles[i * 2 + 1]);
}

__device__ inline void store(float* to, int64_t index, float value) {
  to[index] = value;
}
__device__ inline void store(uint16_t* to, int64_t index, float value) {
  to[index] = bf16_bits(value);
}

template <class Element>
__global__ void __launch_bounds__(kMaxHeadThreads)
    rope_and_store_heads(const StepHeader* step, HeadShape shape, const float* __restrict__ rope, float* q,
                         float* k, const float* __restrict__ v, Element* keys, Element* values) {
  const int32_t row = blockIdx.x, head = blockIdx.y, kv_head = head - shape.heads;
  if (row >= step->rows) return;
  const int32_t half = shape.head_dim / 2;
  const float* const angles =
      rope + static_cast<int64_t>(step_array(step, step->positions)[row]) * shape.head_dim;
  if (kv_head < 0)
    return rotate_head(q + (static_cast<int64_t>(row) * shape.heads + head) * shape.head_dim, half, angles);
  const int64_t from = (static_cast<int64_t>(row) * shape.kv_heads + kv_head) * shape.head_dim;
  const int64_t token = pool_token(step_array(step, step->slots)[row], shape.kv_heads, kv_head);
  const int64_t to = token * shape.head_dim;
  for (int32_t i = threadIdx.x; i < half; i += blockDim.x) {
    rotate(k + from, i, half, angles[i * 2], angles[i * 2 + 1]);
    for (const int32_t element : {i, i + half}) {
      store(keys, to + element, k[from + element]);
      store(values, to + element, v[from + element]);
    }
  }
}

__device__ inline uint32_t magnitude_bits(float value) {
  return __float_as_uint(value) & 0x7fffffffu;
}

// The largest of one value per thread.
__device__ inline uint32_t block_most(uint32_t value, uint32_t* of_warps) {
  const uint32_t lane = threadIdx.x % 32;
  for (int mask = 16; mask > 0; mask /= 2) {
    const uint32_t other = __shfl_xor_sync(kFullWarp, value, mask);
    value = value > other ? value : other;
  }
  if (lane == 0) of_warps[threadIdx.x / 32] = value;
  __syncthreads();
  for (uint32_t warp = 0; warp < blockDim.x / 32; ++warp)
    value = value > of_warps[warp] ? value : of_warps[warp];
  return value;
}

// How a head is brought into e4m3's range: by a power of two that takes its largest magnitude to [128, 256),
// and back by KvScale's number. Beyond 2^15 values are cut off, below 2^-95 they lose bits.
struct Fp8Range {
  float to_e4m3;
  uint16_t back;

  __device__ explicit Fp8Range(uint32_t most) {
    const uint32_t power = most >> 23;
    const uint32_t clamped = power < 32 ? 32 : power > 141 ? 141 : power;
    to_e4m3 = __uint_as_float((261 - clamped) << 23);
    back = power == 255 ? kNanScale : static_cast<uint16_t>((clamped + 113) << 7);
  }
};

__global__ void __launch_bounds__(kMaxHeadThreads)
    rope_and_store_fp8_heads(const StepHeader* step, HeadShape shape, const float* __restrict__ rope,
                             float* q, float* k, const float* __restrict__ v, uint8_t* keys, uint8_t* values,
                             KvScale* scales) {
  const int32_t row = blockIdx.x, head = blockIdx.y, kv_head = head - shape.heads;
  if (row >= step->rows) return;
  const int32_t half = shape.head_dim / 2;
  const float* const angles =
      rope + static_cast<int64_t>(step_array(step, step->positions)[row]) * shape.head_dim;
  if (kv_head < 0)
    return rotate_head(q + (static_cast<int64_t>(row) * shape.heads + head) * shape.head_dim, half, angles);
  const int64_t from = (static_cast<int64_t>(row) * shape.kv_heads + kv_head) * shape.head_dim;
  const int64_t token = pool_token(step_array(step, step->slots)[row], shape.kv_heads, kv_head);
  uint32_t most_key = 0, most_value = 0;
  for (int32_t i = threadIdx.x; i < half; i += blockDim.x) {
    rotate(k + from, i, half, angles[i * 2], angles[i * 2 + 1]);
    for (const int32_t element : {i, i + half}) {
      const uint32_t key = magnitude_bits(k[from + element]);
      const uint32_t value = magnitude_bits(v[from + element]);
      most_key = most_key > key ? most_key : key;
      most_value = most_value > value ? most_value : value;
    }
  }
  auto* const of_warps = reinterpret_cast<uint32_t*>(shared_memory());
  const Fp8Range key_range(block_most(most_key, of_warps));
  const Fp8Range value_range(block_most(most_value, of_warps + kMaxHeadWarps));
  if (threadIdx.x == 0) scales[token] = {key_range.back, value_range.back};
  for (int32_t i = threadIdx.x; i < half; i += blockDim.x) {
    for (const int32_t element : {i, i + half}) {
      const int64_t to = token * shape.head_dim + fp8_place(element, shape.head_dim);
      keys[to] = e4m3_bits(k[from + element] * key_range.to_e4m3);
      values[to] = e4m3_bits(v[from + element] * value_range.to_e4m3);
    }
  }
}

}  // namespace

void rope_and_store(Stream stream, const StepHeader* step, int32_t rows, HeadShape shape, const float* rope,
                    float* q, float* k, const float* v, KvLayer kv) {
  const Grid grid = {static_cast<uint32_t>(rows), static_cast<uint32_t>(shape.heads + shape.kv_heads)};
  const uint32_t threads = threads_for(shape.head_dim / 2, kMaxHeadThreads);
  const auto run = [&]<auto kernel>(size_t shared_bytes, auto... pool) {
    launch<kernel>(stream, grid, threads, shared_bytes, step, shape, rope, q, k, v, pool...);
  };
  if (kv.format == KvFormat::f32)
    return run.operator()<rope_and_store_heads<float>>(0, static_cast<float*>(kv.keys),
                                                       static_cast<float*>(kv.values));
  if (kv.format == KvFormat::bf16)
    return run.operator()<rope_and_store_heads<uint16_t>>(0, static_cast<uint16_t*>(kv.keys),
                                                          static_cast<uint16_t*>(kv.values));
  run.operator()<rope_and_store_fp8_heads>(2 * kMaxHeadWarps * sizeof(uint32_t),
                                           static_cast<uint8_t*>(kv.keys), static_cast<uint8_t*>(kv.values),
                                           kv.scales);
}

}  // namespace apar::cuda
