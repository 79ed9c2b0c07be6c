// Head norms, rotary embedding, and the writes to the KV pool. A block computes one head of one row: query
// heads first, then KV heads.
#include "ops/cuda/device/float8.cuh"
#include "ops/cuda/device/overlap.cuh"
#include "ops/cuda/elementwise/elementwise.h"
#include "ops/cuda/elementwise/norm_scale.cuh"
#include "ops/cuda/step/step_access.cuh"

namespace apar::cuda {
namespace {

constexpr uint32_t kMaxHeadThreads = 256;
constexpr uint32_t kMaxHeadWarps = kMaxHeadThreads / 32;

// Two elements of a head that one thread computes: a rotated pair, or two that are not rotated. The pairs
// 0 ... head_dim / 2 - 1 are the whole head.
struct Pair {
  int32_t elements[2];
  bool rotated;

  __device__ Pair(int32_t i, int32_t pairs, int32_t half)
      : elements{i < pairs ? i : i + pairs, i < pairs ? i + pairs : i + half}, rotated(i < pairs) {}
};

// Norms and rotates the head of the block. Executed by the whole block.
__device__ inline void transform_head(float* x, int32_t head_dim, const float* norm, float eps, int32_t pairs,
                                      const float* angles) {
  const int32_t half = head_dim / 2;
  float scale = 1;
  if (norm != nullptr) {
    float squares = 0;
    for (int32_t i = threadIdx.x; i < half; i += blockDim.x)
      for (const int32_t element : Pair(i, pairs, half).elements)
        squares = fmaf(x[element], x[element], squares);
    scale = norm_scale(squares, head_dim, eps);
  }
  for (int32_t i = threadIdx.x; i < half; i += blockDim.x) {
    const Pair pair(i, pairs, half);
    const auto [first, second] = pair.elements;
    if (norm == nullptr && !pair.rotated) continue;
    float a = x[first], b = x[second];
    if (norm != nullptr) {
      a *= scale * norm[first];
      b *= scale * norm[second];
    }
    if (pair.rotated) {
      const float cos = angles[i * 2], sin = angles[i * 2 + 1];
      const float rotated = a * cos - b * sin;
      b = b * cos + a * sin;
      a = rotated;
    }
    x[first] = a;
    x[second] = b;
  }
}

// The KV head of one row that a block stores.
struct KvHead {
  int64_t from;   // the head's first element in k and v
  int64_t token;  // its place in the pool, by pool_token()
};

// Transforms the block's head and finds its KV head. Returns false where the block has none: its head is a
// query head, or its row is padding.
__device__ inline bool transform(const StepHeader* step, HeadShape shape, const HeadNorms& norms,
                                 const Rotation& rotation, float* q, float* k, KvHead& found) {
  begin_overlapping();
  const int32_t row = blockIdx.x, head = blockIdx.y, kv_head = head - shape.heads;
  if (row >= step->rows) return false;
  const int64_t position = step_array(step, step->positions)[row];
  const float* const angles = rotation.angles + position * 2 * rotation.pairs;
  const bool is_query = kv_head < 0;
  const int64_t from = (is_query ? static_cast<int64_t>(row) * shape.heads + head
                                 : static_cast<int64_t>(row) * shape.kv_heads + kv_head) *
                       shape.head_dim;
  transform_head((is_query ? q : k) + from, shape.head_dim, is_query ? norms.q : norms.k, norms.eps,
                 rotation.pairs, angles);
  if (is_query) return false;
  found = {from, pool_token(step_array(step, step->slots)[row], shape.kv_heads, kv_head)};
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
    rope_and_store_heads(const StepHeader* step, HeadShape shape, HeadNorms norms, Rotation rotation,
                         float* q, float* k, const float* v, Element* keys, Element* values) {
  KvHead head;
  if (!transform(step, shape, norms, rotation, q, k, head)) return;
  const int32_t half = shape.head_dim / 2;
  const int64_t to = head.token * shape.head_dim;
  for (int32_t i = threadIdx.x; i < half; i += blockDim.x) {
    for (const int32_t element : Pair(i, rotation.pairs, half).elements) {
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
    rope_and_store_fp8_heads(const StepHeader* step, HeadShape shape, HeadNorms norms, Rotation rotation,
                             float* q, float* k, const float* v, uint8_t* keys, uint8_t* values,
                             KvScale* scales) {
  KvHead head;
  if (!transform(step, shape, norms, rotation, q, k, head)) return;
  const int32_t half = shape.head_dim / 2;
  uint32_t max_key = 0, max_value = 0;
  for (int32_t i = threadIdx.x; i < half; i += blockDim.x) {
    for (const int32_t element : Pair(i, rotation.pairs, half).elements) {
      const uint32_t key = magnitude_bits(k[head.from + element]);
      const uint32_t value = magnitude_bits(v[head.from + element]);
      max_key = max_key > key ? max_key : key;
      max_value = max_value > value ? max_value : value;
    }
  }
  auto* const of_warps = reinterpret_cast<uint32_t*>(shared_memory()) + kMaxHeadWarps;  // behind the norm's
  const Fp8Range key_range(block_max(max_key, of_warps));
  const Fp8Range value_range(block_max(max_value, of_warps + kMaxHeadWarps));
  if (threadIdx.x == 0) scales[head.token] = {key_range.back, value_range.back};
  for (int32_t i = threadIdx.x; i < half; i += blockDim.x) {
    for (const int32_t element : Pair(i, rotation.pairs, half).elements) {
      const int64_t to = head.token * shape.head_dim + fp8_place(element, shape.head_dim);
      keys[to] = e4m3_bits(k[head.from + element] * key_range.to_e4m3);
      values[to] = e4m3_bits(v[head.from + element] * value_range.to_e4m3);
    }
  }
}

}  // namespace

void rope_and_store(Stream stream, const StepHeader* step, int32_t rows, HeadShape shape, HeadNorms norms,
                    Rotation rotation, float* q, float* k, const float* v, KvLayer kv) {
  const Grid grid = {static_cast<uint32_t>(rows), static_cast<uint32_t>(shape.heads + shape.kv_heads)};
  const uint32_t threads = threads_for(shape.head_dim / 2, kMaxHeadThreads);
  constexpr size_t kWarpBytes = kMaxHeadWarps * sizeof(float);  // one value per warp
  const auto run = [&]<auto kernel>(size_t shared_bytes, auto... pool) {
    launch_overlapping<kernel>(stream, grid, threads, shared_bytes, step, shape, norms, rotation, q, k, v,
                               pool...);
  };
  if (kv.format == KvFormat::f32)
    return run.operator()<rope_and_store_heads<float>>(kWarpBytes, static_cast<float*>(kv.keys),
                                                       static_cast<float*>(kv.values));
  if (kv.format == KvFormat::bf16)
    return run.operator()<rope_and_store_heads<uint16_t>>(kWarpBytes, static_cast<uint16_t*>(kv.keys),
                                                          static_cast<uint16_t*>(kv.values));
  run.operator()<rope_and_store_fp8_heads>(3 * kWarpBytes, static_cast<uint8_t*>(kv.keys),
                                           static_cast<uint8_t*>(kv.values), kv.scales);
}

}  // namespace apar::cuda
