#pragma once

#include <cstdint>

#include "common/model_config.h"
#include "ops/cuda/device/platform_types.h"
#include "ops/cuda/gemm/plan.h"
#include "ops/cuda/gemm/weight_tiles.h"

namespace apar::cuda {

constexpr int32_t kMaxProjections = 3;

struct GemmProjection {
  const void* weights = nullptr;  // packed for packed_gemm, row-major [outs, in] for plain_gemm
  float* out = nullptr;           // [rows, outs]
  int32_t outs = 0;
  int32_t first_tile = 0;          // index of its first output tile in the call
  const float* bias = nullptr;     // [outs], added to every row; null: none
  PairHalf half = PairHalf::none;  // of weights that are packed as a pair; only cuBLASLt computes one half
};

// Makes a call a product of a gated pair: projections[0] has the pair's weights and gate's bias, and
// silu(gate) * up is written instead of the sums, to projections[0].out only if that is not null.
struct GatedOutput {
  uint16_t* bf16 = nullptr;        // [rows, outs], rounded to bf16; null: an ordinary call
  const float* up_bias = nullptr;  // [outs]
};

// Linear layers with the same input, whose weights have one format.
struct GemmCall {
  GemmProjection projections[kMaxProjections];
  int32_t num_projections = 0;
  int32_t tiles = 0;  // output tiles of all projections
  int32_t rows = 0;
  int32_t in = 0;
  const float* x = nullptr;          // [rows, in]
  const uint16_t* x_bf16 = nullptr;  // x rounded to bf16
  float* partials = nullptr;         // [partial_floats()]
  int32_t* arrived = nullptr;        // counters [tiles * row tiles], zero between calls
  GatedOutput gated;
};

// out = x_bf16 · w^T + bias, or SwiGLU of a gated pair, on the tensor cores, with weights of any format that
// pack_tiles() packs. `in` is a multiple of 8.
void packed_gemm(Stream stream, const GemmCall& call, WeightFormat format, const GemmPlan& plan);

// out = x · w^T + bias for row-major weights in f32 or bf16 of any shape, with a warp per output.
void plain_gemm(Stream stream, const GemmCall& call, DType weights);

// The kernels that packed_gemm() selects from. The first two give the same bits; gemm_wgmma needs compute
// capability 9.0.
void gemm_stream(Stream stream, const GemmCall& call, WeightFormat format, const GemmPlan& plan);
void gemm_mma(Stream stream, const GemmCall& call, WeightFormat format, const GemmPlan& plan);
void gemm_wgmma(Stream stream, const GemmCall& call, WeightFormat format, const GemmPlan& plan);

// out[rows, outs] += bias, for products that cannot add it themselves.
void add_bias(Stream stream, int32_t rows, int32_t outs, const float* bias, float* out);

// Unpacks bf16 weights, or one half of a pair, into row-major rows[outs, in]. `in` is a multiple of 8.
void unpack_bf16(Stream stream, const void* packed, PairHalf half, int32_t outs, int32_t in, uint16_t* rows);

}  // namespace apar::cuda
