#pragma once

#include <cstdint>

#include "model/step_batch.h"
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

// The layout of one KV block of one KV head, f32 or bf16. Tokens are the lanes of a score, dimensions those
// of a value, so neither needs a sum across lanes and neither depends on where in a block a token lies.
//   keys   [head_dim][kBlockTokens]
//   values [kBlockTokens][value_stride(head_dim)]; the padding is zero
constexpr int64_t value_stride(int64_t head_dim) {
  return (head_dim + 15) / 16 * 16;
}

// What one instruction set does for one thread; every pointer may have any alignment. Within one table each
// output has its own chain of operations in one fixed order, whatever the number of rows or queries of the
// call.
struct Kernels {
  void (*matmul_f32)(const float* w, const float* x, float* y, const MatmulRange& range);
  void (*matmul_bf16)(const uint16_t* w, const float* x, float* y, const MatmulRange& range);

  // x[count] += y[count].
  void (*add)(float* x, const float* y, int64_t count);
  // out[width] = x / sqrt(mean(x^2) + eps) * weight.
  void (*rms_norm)(const float* x, const float* weight, float eps, int64_t width, float* out);
  // gate[count] = silu(gate) * up.
  void (*swiglu)(float* gate, const float* up, int64_t count);

  // scores[query * score_stride + token] = q[query] · key[token] for all kBlockTokens of a block, also those
  // never written (the caller ignores them). q is [queries][head_dim].
  void (*scores_f32)(const float* keys, const float* q, int64_t queries, int64_t head_dim, float* scores,
                     int64_t score_stride);
  void (*scores_bf16)(const uint16_t* keys, const float* q, int64_t queries, int64_t head_dim, float* scores,
                      int64_t score_stride);
  // scores[count] = exp(scores - max(scores)); returns their sum. count >= 1; overwrites up to the next
  // multiple of 16.
  float (*softmax)(float* scores, int64_t count);
  // sums[query][stride] += p[query * p_stride + token] * values[token][stride], token after token. stride is
  // a multiple of 16.
  void (*values_f32)(const float* values, int64_t tokens, int64_t stride, const float* p, int64_t p_stride,
                     int64_t queries, float* sums);
  void (*values_bf16)(const uint16_t* values, int64_t tokens, int64_t stride, const float* p,
                      int64_t p_stride, int64_t queries, float* sums);
};

// The table of `isa`, which must be supported().
const Kernels& kernels(Isa isa);

extern const Kernels reference_kernels;
#if defined(__x86_64__)
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;
#endif

}  // namespace apar::cpu
