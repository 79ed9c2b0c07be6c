// Matrix products of row-major weights, of any shape.
#include "ops/cuda/device/intrinsics.cuh"
#include "ops/cuda/device/overlap.cuh"
#include "ops/cuda/gemm/gemm.h"

namespace apar::cuda {
namespace {

__device__ inline float widen(float value) {
  return value;
}
__device__ inline float widen(uint16_t bits) {
  return bf16_float(bits);
}

constexpr int kPlainThreads = 128;
constexpr int kPlainRows = 4;

// A warp computes one output of four rows; each lane sums every 32nd input.
template <class Element>
__global__ void __launch_bounds__(kPlainThreads)
    plain_outputs(const __grid_constant__ GemmProjection layer, const __grid_constant__ GemmCall call) {
  begin_overlapping();
  const int out = blockIdx.x * (kPlainThreads / 32) + threadIdx.x / 32, first_row = blockIdx.y * kPlainRows;
  if (out >= layer.outs) return;
  const auto* const weights =
      static_cast<const Element*>(layer.weights) + static_cast<int64_t>(out) * call.in;
  float sums[kPlainRows] = {};
  for (int k = threadIdx.x % 32; k < call.in; k += 32) {
    const float weight = widen(weights[k]);
#pragma unroll
    for (int row = 0; row < kPlainRows; ++row)
      if (first_row + row < call.rows)
        sums[row] = fmaf(weight, call.x[static_cast<int64_t>(first_row + row) * call.in + k], sums[row]);
  }
#pragma unroll
  for (int row = 0; row < kPlainRows; ++row) {
    const float sum = warp_sum(sums[row]);
    if (threadIdx.x % 32 == 0 && first_row + row < call.rows)
      layer.out[static_cast<int64_t>(first_row + row) * layer.outs + out] =
          layer.bias == nullptr ? sum : sum + layer.bias[out];
  }
}

}  // namespace

void plain_gemm(Stream stream, const GemmCall& call, DType weights) {
  for (int32_t i = 0; i < call.num_projections; ++i) {
    const GemmProjection& layer = call.projections[i];
    const Grid grid = {static_cast<uint32_t>(tiles_of(layer.outs, kPlainThreads / 32)),
                       static_cast<uint32_t>(tiles_of(call.rows, kPlainRows))};
    if (weights == DType::f32)
      launch_overlapping<plain_outputs<float>>(stream, grid, kPlainThreads, 0, layer, call);
    else
      launch_overlapping<plain_outputs<uint16_t>>(stream, grid, kPlainThreads, 0, layer, call);
  }
}

}  // namespace apar::cuda
