// Kernels with one or a few threads per element. The block of a row never reads other rows.
#include "common/step_batch.h"
#include "ops/cuda/device/intrinsics.cuh"
#include "ops/cuda/device/overlap.cuh"
#include "ops/cuda/device/swiglu.cuh"
#include "ops/cuda/elementwise/elementwise.h"
#include "ops/cuda/elementwise/norm_scale.cuh"
#include "ops/cuda/step/step_access.cuh"

namespace apar::cuda {
namespace {

constexpr uint32_t kThreads = 256;
constexpr int32_t kMaxNormThreads = 1024;
constexpr int kMaxNormVectors = 4;  // of 4 floats, kept by a thread

__device__ inline float load(const float* from, int64_t index) {
  return from[index];
}
__device__ inline float load(const uint16_t* from, int64_t index) {
  return bf16_float(from[index]);
}

template <class Element>
__global__ void embed_rows(const StepHeader* step, const Element* table, int32_t width, float* out) {
  begin_overlapping();
  const int32_t row = blockIdx.x;
  if (row >= step->rows) return;
  const int64_t token = step_array(step, step->tokens)[row];
  for (int32_t i = threadIdx.x; i < width; i += blockDim.x)
    out[static_cast<int64_t>(row) * width + i] = load(table, token * width + i);
}

__global__ void __launch_bounds__(kThreads)
    add_rms_norm_any(float* x, const float* residual, const float* weight, int32_t width, float eps,
                     float* out, uint16_t* out_bf16) {
  begin_overlapping();
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
  const float scale = norm_scale(squares, width, eps);
  for (int32_t i = threadIdx.x; i < width; i += kThreads) {
    const float value = x[first + i] * scale * weight[i];
    out[first + i] = value;
    out_bf16[first + i] = bf16_bits(value);
  }
}

// For widths that are a multiple of 4, with up to kVectors vectors of 4 floats per thread. All loads are
// issued before the sum and stay in registers, so that a single row waits for memory only once. `out` may
// alias `residual`.
template <int kVectors>
__global__ void __launch_bounds__(kMaxNormThreads)
    add_rms_norm_rows(float* x, const float* residual, const float* __restrict__ weight, int32_t width,
                      float eps, float* out, uint16_t* out_bf16) {
  begin_overlapping();
  const int32_t vectors = width / 4;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * vectors;
  float4 value[kVectors], added[kVectors], factor[kVectors];
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    const int32_t i = threadIdx.x + k * blockDim.x;
    value[k] = added[k] = factor[k] = make_float4(0, 0, 0, 0);
    if (i >= vectors) continue;
    value[k] = reinterpret_cast<const float4*>(x)[first + i];
    if (residual != nullptr) added[k] = reinterpret_cast<const float4*>(residual)[first + i];
    factor[k] = reinterpret_cast<const float4*>(weight)[i];
  }
  float squares = 0;
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    const int32_t i = threadIdx.x + k * blockDim.x;
    if (residual != nullptr) {
      value[k] = make_float4(value[k].x + added[k].x, value[k].y + added[k].y, value[k].z + added[k].z,
                             value[k].w + added[k].w);
      if (i < vectors) reinterpret_cast<float4*>(x)[first + i] = value[k];
    }
    squares = fmaf(value[k].x, value[k].x, squares);
    squares = fmaf(value[k].y, value[k].y, squares);
    squares = fmaf(value[k].z, value[k].z, squares);
    squares = fmaf(value[k].w, value[k].w, squares);
  }
  const float scale = norm_scale(squares, width, eps);
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    const int32_t i = threadIdx.x + k * blockDim.x;
    if (i >= vectors) continue;
    const float4 result = make_float4(value[k].x * scale * factor[k].x, value[k].y * scale * factor[k].y,
                                      value[k].z * scale * factor[k].z, value[k].w * scale * factor[k].w);
    reinterpret_cast<float4*>(out)[first + i] = result;
    reinterpret_cast<uint2*>(out_bf16)[first + i] =
        make_uint2(bf16_pair(result.x, result.y), bf16_pair(result.z, result.w));
  }
}

__global__ void __launch_bounds__(kThreads)
    swiglu_elements(int64_t count, float* gate, const float* up, uint16_t* gate_bf16) {
  begin_overlapping();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const float value = swiglu_of(gate[i], up[i]);
  gate[i] = value;
  gate_bf16[i] = bf16_bits(value);
}

__global__ void __launch_bounds__(kThreads)
    add_elements(int32_t num_partials, int64_t count, const float* partials, float* sum) {
  begin_overlapping();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  float value = partials[i];
  for (int32_t partial = 1; partial < num_partials; ++partial) value += partials[partial * count + i];
  sum[i] = value;
}

__global__ void __launch_bounds__(kThreads)
    gather_rows(const StepHeader* step, int32_t width, const float* x, float* out, uint16_t* out_bf16) {
  begin_overlapping();
  const int32_t row = blockIdx.x;
  if (row >= step->logit_rows) return;
  const int64_t from = static_cast<int64_t>(step_array(step, step->logit_row_ids)[row]) * width;
  const int64_t to = static_cast<int64_t>(row) * width;
  for (int32_t i = threadIdx.x; i < width; i += kThreads) {
    out[to + i] = x[from + i];
    out_bf16[to + i] = bf16_bits(x[from + i]);
  }
}

}  // namespace

void embed(Stream stream, const StepHeader* step, int32_t rows, const void* table, DType dtype, int32_t width,
           float* out) {
  const Grid grid = {static_cast<uint32_t>(rows)};
  if (dtype == DType::f32)
    launch_overlapping<embed_rows<float>>(stream, grid, kThreads, 0, step, static_cast<const float*>(table),
                                          width, out);
  else
    launch_overlapping<embed_rows<uint16_t>>(stream, grid, kThreads, 0, step,
                                             static_cast<const uint16_t*>(table), width, out);
}

void add_rms_norm(Stream stream, int32_t rows, int32_t width, float eps, float* x, const float* residual,
                  const float* weight, float* out, uint16_t* out_bf16) {
  const Grid grid = {static_cast<uint32_t>(rows)};
  // The order of the sum depends on the width alone.
  const bool in_vectors = width % 4 == 0 && width / 4 <= kMaxNormVectors * kMaxNormThreads;
  const uint32_t threads = in_vectors ? threads_for(width / 4, kMaxNormThreads) : kThreads;
  const auto run = [&]<auto kernel>() {
    launch_overlapping<kernel>(stream, grid, threads, threads / 32 * sizeof(float), x, residual, weight,
                               width, eps, out, out_bf16);
  };
  if (!in_vectors) return run.operator()<add_rms_norm_any>();
  const int32_t vectors = tiles_of(width / 4, static_cast<int32_t>(threads));
  if (vectors == 1) return run.operator()<add_rms_norm_rows<1>>();
  if (vectors == 2) return run.operator()<add_rms_norm_rows<2>>();
  run.operator()<add_rms_norm_rows<kMaxNormVectors>>();
}

void swiglu(Stream stream, int64_t count, float* gate, const float* up, uint16_t* gate_bf16) {
  launch_overlapping<swiglu_elements>(stream, {static_cast<uint32_t>((count + kThreads - 1) / kThreads)},
                                      kThreads, 0, count, gate, up, gate_bf16);
}

void add_partials(Stream stream, int32_t num_partials, int64_t count, const float* partials, float* sum) {
  launch_overlapping<add_elements>(stream, {static_cast<uint32_t>((count + kThreads - 1) / kThreads)},
                                   kThreads, 0, num_partials, count, partials, sum);
}

void gather_logit_rows(Stream stream, const StepHeader* step, int32_t rows, int32_t width, const float* x,
                       float* out, uint16_t* out_bf16) {
  launch_overlapping<gather_rows>(stream, {static_cast<uint32_t>(rows)}, kThreads, 0, step, width, x, out,
                                  out_bf16);
}

}  // namespace apar::cuda
