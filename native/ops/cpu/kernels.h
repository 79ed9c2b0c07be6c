#pragma once

#include <cstddef>
#include <cstdint>

#include "common/model_config.h"
#include "common/step_batch.h"
#include "ops/cpu/cpu_features.h"

namespace apar::cpu {

// Part of y[rows, outs] = x[rows, in] · w[outs, in]^T: the outputs [out_begin, out_end) of all rows.
struct MatmulRange {
  int64_t rows = 0;
  int64_t in = 0;
  int64_t out_begin = 0;
  int64_t out_end = 0;
  int64_t y_stride = 0;  // floats between rows of y
};

// The same for packed weights: the outputs of the panels [begin, end).
struct PanelRange {
  int64_t rows = 0;
  int64_t in = 0;
  int64_t outs = 0;  // of the whole layer
  int64_t begin = 0;
  int64_t end = 0;
  int64_t y_stride = 0;
};

// The kernels of one packed format (packed.h). Members are references, as in Kernels, so that a table that
// lacks one does not compile.
struct PackedKernels {
  // Rounds or quantises one row of activations, x[in], into the prepared_bytes() that `multiply` reads. The
  // bytes are the same on every processor.
  void (&prepare)(const float* x, int64_t in, std::byte* prepared);
  // w is the whole layer, x the prepared rows.
  void (&multiply)(const std::byte* w, const std::byte* x, float* y, const PanelRange& range);
};

// The layout of one KV block of one KV head. SIMD lanes are tokens in keys and dimensions in values. So
// neither scores nor values need a sum across lanes, and neither depends on a token's place in its block.
//   keys, f32    [head_dim][kBlockTokens]
//   keys, bf16   [head_dim / 2][kBlockTokens][2]
//   values       [kBlockTokens][value_stride(head_dim)]; the padding is zero
constexpr int64_t value_stride(int64_t head_dim) {
  return (head_dim + 15) / 16 * 16;
}

constexpr int64_t kQueryPadding = 8;

// The kernels of one instruction set, each for one thread; every pointer may have any alignment. Within one
// table each output has its own chain of operations in one fixed order, whatever the number of rows or
// queries of the call. kernel_table.inl lists them.
struct Kernels {
  void (&matmul_f32)(const float* w, const float* x, float* y, const MatmulRange& range);
  PackedKernels bf16, int8, int4;

  // x[count] += y[count].
  void (&add)(float* x, const float* y, int64_t count);
  // out[width] = x / sqrt(mean(x^2) + eps) * weight. out may be x.
  void (&rms_norm)(const float* x, const float* weight, float eps, int64_t width, float* out);
  // gate[count] = silu(gate) * up.
  void (&swiglu)(float* gate, const float* up, int64_t count);
  // Rotates every pair (head[i], head[i + half]) by the angle whose cosine and sine are cos[i] and sin[i].
  void (&rotate)(float* head, const float* cos, const float* sin, int64_t half);

  // scores[query * score_stride + token] = q[query] · key[token] for all kBlockTokens of a block, including
  // slots that were never written, whose scores the caller ignores. q is [queries][head_dim]; kernels may
  // read, but not use, kQueryPadding queries behind it.
  void (&scores_f32)(const float* keys, const float* q, int64_t queries, int64_t head_dim, float* scores,
                     int64_t score_stride);
  void (&scores_bf16)(const uint16_t* keys, const uint16_t* q, int64_t queries, int64_t head_dim,
                      float* scores, int64_t score_stride);
  // scores[count] = exp(scores - max(scores)); returns their sum. count >= 1. Also overwrites scores up to
  // the next multiple of 16.
  float (&softmax)(float* scores, int64_t count);
  // sums[query][stride] += p[query * p_stride + token] * values[token][stride], in the order of tokens.
  // stride is a multiple of 16.
  void (&values_f32)(const float* values, int64_t tokens, int64_t stride, const float* p, int64_t p_stride,
                     int64_t queries, float* sums);
  void (&values_bf16)(const uint16_t* values, int64_t tokens, int64_t stride, const float* p,
                      int64_t p_stride, int64_t queries, float* sums);

  const PackedKernels& packed(WeightFormat format) const {
    return format == WeightFormat::bf16 ? bf16 : format == WeightFormat::int8 ? int8 : int4;
  }
};

// The table of `isa`. Throws Error{unavailable} unless it is supported().
const Kernels& kernels(Isa isa);

extern const Kernels reference_kernels;
#if defined(__x86_64__)
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;
extern const Kernels avx512_bf16_kernels;
extern const Kernels amx_kernels;
#elif defined(__aarch64__)
extern const Kernels neon_kernels;
extern const Kernels neon_dotprod_kernels;
extern const Kernels neon_i8mm_kernels;
extern const Kernels neon_bf16_kernels;
#endif

}  // namespace apar::cpu
