// Kernels with one or a few threads per element; a row's block never depends on other rows.
#include "model/step_batch.h"
#include "ops/cuda/intrinsics.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/step_access.cuh"

namespace apar::cuda {
namespace {

constexpr uint32_t kThreads = 256;
constexpr int kWarps = kThreads / 32;

__device__ inline float load(const float* from, int64_t index) {
  return from[index];
}
__device__ inline float load(const uint16_t* from, int64_t index) {
  return bf16_float(from[index]);
}
__device__ inline void store(float* to, int64_t index, float value) {
  to[index] = value;
}
__device__ inline void store(uint16_t* to, int64_t index, float value) {
  to[index] = bf16_bits(value);
}

template <class Element>
__global__ void embed_rows(const StepHeader* step, const Element* table, int32_t width, float* out) {
  const int32_t row = blockIdx.x;
  if (row >= step->rows) return;
  const int64_t token = step_array(step, step->tokens)[row];
  for (int32_t i = threadIdx.x; i < width; i += blockDim.x)
    out[static_cast<int64_t>(row) * width + i] = load(table, token * width + i);
}

// The sum of one value per thread, added in an order that depends on nothing but the number of threads.
__device__ inline float block_sum(float value) {
  auto* const sums = reinterpret_cast<float*>(shared_memory());
  value = warp_sum(value);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
  __syncthreads();
  float total = 0;
  for (int warp = 0; warp < kWarps; ++warp) total += sums[warp];
  return total;
}

__global__ void __launch_bounds__(kThreads)
    add_rms_norm_rows(float* x, const float* residual, const float* weight, int32_t width, float eps,
                      float* out, uint16_t* out_bf16) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * width;
  float squares = 0;
  for (int32_t i = threadIdx.x; i < width; i += kThreads) {
    float value = x[first + i];
    if (residual != nullptr) {
      value += residual[first + i];
      x[first + i] = value;
    }
    squares = fmaf(value, value, squares);
  }
  const float scale = 1.0f / sqrtf(block_sum(squares) / static_cast<float>(width) + eps);
  for (int32_t i = threadIdx.x; i < width; i += kThreads) {
    const float value = x[first + i] * scale * weight[i];
    out[first + i] = value;
    out_bf16[first + i] = bf16_bits(value);
  }
}

__global__ void __launch_bounds__(kThreads)
    swiglu_elements(int64_t count, float* gate, const float* up, uint16_t* gate_bf16) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const float value = gate[i] / (1.0f + expf(-gate[i])) * up[i];
  gate[i] = value;
  gate_bf16[i] = bf16_bits(value);
}

__global__ void __launch_bounds__(kThreads)
    add_elements(int32_t num_parts, int64_t count, const float* parts, float* sum) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  float value = parts[i];
  for (int32_t part = 1; part < num_parts; ++part) value += parts[part * count + i];
  sum[i] = value;
}

__global__ void __launch_bounds__(kThreads)
    gather_rows(const StepHeader* step, int32_t width, const float* x, float* out, uint16_t* out_bf16) {
  const int32_t row = blockIdx.x;
  if (row >= step->logit_rows) return;
  const int64_t from = static_cast<int64_t>(step_array(step, step->logit_row_ids)[row]) * width;
  const int64_t to = static_cast<int64_t>(row) * width;
  for (int32_t i = threadIdx.x; i < width; i += kThreads) {
    out[to + i] = x[from + i];
    out_bf16[to + i] = bf16_bits(x[from + i]);
  }
}

__device__ inline void rotate(float* head, int32_t i, int32_t half, float cos, float sin) {
  const float a = head[i], b = head[i + half];
  head[i] = a * cos - b * sin;
  head[i + half] = b * cos + a * sin;
}

// A block takes one row; its threads take the pairs of all heads in turn.
template <class Element>
__global__ void __launch_bounds__(kThreads)
    rope_and_store_rows(const StepHeader* step, HeadShape shape, const float* rope, float* q, float* k,
                        const float* v, Element* keys, Element* values) {
  const int32_t row = blockIdx.x;
  if (row >= step->rows) return;
  const int32_t half = shape.head_dim / 2;
  const int32_t position = step_array(step, step->positions)[row], slot = step_array(step, step->slots)[row];
  const float* const angles = rope + static_cast<int64_t>(position) * shape.head_dim;
  float* const row_q = q + static_cast<int64_t>(row) * shape.heads * shape.head_dim;
  const int64_t kv_width = static_cast<int64_t>(shape.kv_heads) * shape.head_dim;
  float* const row_k = k + row * kv_width;
  const float* const row_v = v + row * kv_width;
  for (int32_t pair = threadIdx.x; pair < shape.heads * half; pair += kThreads)
    rotate(row_q + pair / half * shape.head_dim, pair % half, half, angles[pair % half * 2],
           angles[pair % half * 2 + 1]);
  for (int32_t pair = threadIdx.x; pair < shape.kv_heads * half; pair += kThreads) {
    const int32_t head = pair / half, i = pair % half;
    const int64_t in = static_cast<int64_t>(head) * shape.head_dim;
    rotate(row_k + in, i, half, angles[i * 2], angles[i * 2 + 1]);
    const int64_t block = static_cast<int64_t>(slot / kBlockTokens) * shape.kv_heads + head;
    const int64_t out = (block * kBlockTokens + slot % kBlockTokens) * shape.head_dim;
    for (const int32_t element : {i, i + half}) {
      store(keys, out + element, row_k[in + element]);
      store(values, out + element, row_v[in + element]);
    }
  }
}

}  // namespace

void embed(Stream stream, const StepHeader* step, int32_t rows, const void* table, DType dtype, int32_t width,
           float* out) {
  const Grid grid = {static_cast<uint32_t>(rows)};
  if (dtype == DType::f32)
    launch<embed_rows<float>>(stream, grid, kThreads, 0, step, static_cast<const float*>(table), width, out);
  else
    launch<embed_rows<uint16_t>>(stream, grid, kThreads, 0, step, static_cast<const uint16_t*>(table), width,
                                 out);
}

void add_rms_norm(Stream stream, int32_t rows, int32_t width, float eps, float* x, const float* residual,
                  const float* weight, float* out, uint16_t* out_bf16) {
  launch<add_rms_norm_rows>(stream, {static_cast<uint32_t>(rows)}, kThreads, kWarps * sizeof(float), x,
                            residual, weight, width, eps, out, out_bf16);
}

void swiglu(Stream stream, int64_t count, float* gate, const float* up, uint16_t* gate_bf16) {
  launch<swiglu_elements>(stream, {static_cast<uint32_t>((count + kThreads - 1) / kThreads)}, kThreads, 0,
                          count, gate, up, gate_bf16);
}

void add_parts(Stream stream, int32_t num_parts, int64_t count, const float* parts, float* sum) {
  launch<add_elements>(stream, {static_cast<uint32_t>((count + kThreads - 1) / kThreads)}, kThreads, 0,
                       num_parts, count, parts, sum);
}

void gather_logit_rows(Stream stream, const StepHeader* step, int32_t rows, int32_t width, const float* x,
                       float* out, uint16_t* out_bf16) {
  launch<gather_rows>(stream, {static_cast<uint32_t>(rows)}, kThreads, 0, step, width, x, out, out_bf16);
}

void rope_and_store(Stream stream, const StepHeader* step, int32_t rows, HeadShape shape, const float* rope,
                    float* q, float* k, const float* v, KvLayer kv) {
  const Grid grid = {static_cast<uint32_t>(rows)};
  if (kv.dtype == DType::f32)
    launch<rope_and_store_rows<float>>(stream, grid, kThreads, 0, step, shape, rope, q, k, v,
                                       static_cast<float*>(kv.keys), static_cast<float*>(kv.values));
  else
    launch<rope_and_store_rows<uint16_t>>(stream, grid, kThreads, 0, step, shape, rope, q, k, v,
                                          static_cast<uint16_t*>(kv.keys), static_cast<uint16_t*>(kv.values));
}

}  // namespace apar::cuda
