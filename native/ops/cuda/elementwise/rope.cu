// Rotary embedding, and the writes to the KV pool. A block computes one head of one row: query heads first,
// then KV heads.
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

// The KV head of one row that a block rotates and stores.
struct KvHead {
  int32_t half;         // of head_dim
  const float* angles;  // [half][cos, sin] of the row's position
  int64_t from;         // the head's first element in k and v
  int64_t token;        // its place in the pool, by pool_token()

  __device__ void rotate_pair(float* k, int32_t i) const {
    rotate(k + from, i, half, angles[i * 2], angles[i * 2 + 1]);
  }
};

// Finds the block's KV head. Returns false where the block has none: its head is a query head, which is
// rotated here, or its row is padding.
__device__ inline bool find_kv_head(const StepHeader* step, HeadShape shape, const float* rope, float* q,
                                    KvHead& found) {
  const int32_t row = blockIdx.x, head = blockIdx.y, kv_head = head - shape.heads;
  if (row >= step->rows) return false;
  const int32_t half = shape.head_dim / 2;
  const float* const angles =
      rope + static_cast<int64_t>(step_array(step, step->positions)[row]) * shape.head_dim;
  if (kv_head < 0) {
    float* const query = q + (static_cast<int64_t>(row) * shape.heads + head) * shape.head_dim;
    for (int32_t i = threadIdx.x; i < half; i += blockDim.x)
      rotate(query, i, half, angles[i * 2], angles[i * 2 + 1]);
    return false;
  }
  found = {half, angles, (static_cast<int64_t>(row) * shape.kv_heads + kv_head) * shape.head_dim,
           pool_token(step_array(step, step->slots)[row], shape.kv_heads, kv_head)};
  return true;
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
  KvHead head;
  if (!find_kv_head(step, shape, rope, q, head)) return;
  const int64_t to = head.token * shape.head_dim;
  for (int32_t i = threadIdx.x; i < head.half; i += blockDim.x) {
    head.rotate_pair(k, i);
    for (const int32_t element : {i, i + head.half}) {
      store(keys, to + element, k[head.from + element]);
      store(values, to + element, v[head.from + element]);
    }
  }
}

__device__ inline uint32_t magnitude_bits(float value) {
  return __float_as_uint(value) & 0x7fffffffu;
}

// The maximum of one value per thread. `of_warps` is shared memory for one value per warp.
__device__ inline uint32_t block_max(uint32_t value, uint32_t* of_warps) {
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

// The scale that brings a head into e4m3's range: a power of two that moves its largest magnitude into
// [128, 256). `back` is KvScale's number for the way back. Values beyond 2^15 are clamped, values below 2^-95
// lose bits.
struct Fp8Range {
  float to_e4m3;
  uint16_t back;

  // max_bits: the largest magnitude, as the bits of an f32.
  __device__ explicit Fp8Range(uint32_t max_bits) {
    const uint32_t power = max_bits >> 23;
    const uint32_t clamped = power < 32 ? 32 : power > 141 ? 141 : power;
    to_e4m3 = __uint_as_float((261 - clamped) << 23);
    back = power == 255 ? kNanScale : static_cast<uint16_t>((clamped + 113) << 7);
  }
};

__global__ void __launch_bounds__(kMaxHeadThreads)
    rope_and_store_fp8_heads(const StepHeader* step, HeadShape shape, const float* __restrict__ rope,
                             float* q, float* k, const float* __restrict__ v, uint8_t* keys, uint8_t* values,
                             KvScale* scales) {
  KvHead head;
  if (!find_kv_head(step, shape, rope, q, head)) return;
  uint32_t max_key = 0, max_value = 0;
  for (int32_t i = threadIdx.x; i < head.half; i += blockDim.x) {
    head.rotate_pair(k, i);
    for (const int32_t element : {i, i + head.half}) {
      const uint32_t key = magnitude_bits(k[head.from + element]);
      const uint32_t value = magnitude_bits(v[head.from + element]);
      max_key = max_key > key ? max_key : key;
      max_value = max_value > value ? max_value : value;
    }
  }
  auto* const of_warps = reinterpret_cast<uint32_t*>(shared_memory());
  const Fp8Range key_range(block_max(max_key, of_warps));
  const Fp8Range value_range(block_max(max_value, of_warps + kMaxHeadWarps));
  if (threadIdx.x == 0) scales[head.token] = {key_range.back, value_range.back};
  for (int32_t i = threadIdx.x; i < head.half; i += blockDim.x) {
    for (const int32_t element : {i, i + head.half}) {
      const int64_t to = head.token * shape.head_dim + fp8_place(element, shape.head_dim);
      keys[to] = e4m3_bits(k[head.from + element] * key_range.to_e4m3);
      values[to] = e4m3_bits(v[head.from + element] * value_range.to_e4m3);
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
