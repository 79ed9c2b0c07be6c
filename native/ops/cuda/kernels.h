#pragma once

// Every kernel behind a plain function: shapes in elements, all pointers in device memory unless said
// otherwise. A launch depends on the number of rows it is made for, never on the step: `rows` may be more
// than the step has (padded), what such rows hold is undefined and nobody reads it. bf16 is passed as its
// bits.

#include <cstdint>

#include "model/config.h"
#include "ops/cuda/gemm_plan.h"
#include "ops/cuda/kv_layout.h"
#include "ops/cuda/platform_types.h"
#include "ops/cuda/step_data.h"

namespace apar::cuda {

// out[rows, width] = table[token of each row].
void embed(Stream stream, const StepHeader* step, int32_t rows, const void* table, DType dtype, int32_t width,
           float* out);

// x += residual (if not null); out = x / sqrt(mean(x^2) + eps) * weight, also in bf16. `out` may be the
// residual.
void add_rms_norm(Stream stream, int32_t rows, int32_t width, float eps, float* x, const float* residual,
                  const float* weight, float* out, uint16_t* out_bf16);

// gate[count] = silu(gate) * up, also in bf16.
void swiglu(Stream stream, int64_t count, float* gate, const float* up, uint16_t* gate_bf16);

// out[i] = x[logit row i], `width` wide, also in bf16.
void gather_logit_rows(Stream stream, const StepHeader* step, int32_t rows, int32_t width, const float* x,
                       float* out, uint16_t* out_bf16);

// sum[count] = parts[0][count] + parts[1][count] + ..., in that order.
void add_parts(Stream stream, int32_t num_parts, int64_t count, const float* parts, float* sum);

// K and V of one layer: [block][kv_head][kBlockTokens][head_dim] (kv_layout.h).
struct KvLayer {
  void* keys = nullptr;
  void* values = nullptr;
  KvFormat format = KvFormat::bf16;
  KvScale* scales = nullptr;  // of fp8: [block][kv_head][kBlockTokens]
};
struct HeadShape {
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;

  constexpr int32_t group() const { return heads / kv_heads; }
};

// Rotates q and k in place and writes k and v into the rows' slots. rope: [position][head_dim / 2][cos, sin].
void rope_and_store(Stream stream, const StepHeader* step, int32_t rows, HeadShape shape, const float* rope,
                    float* q, float* k, const float* v, KvLayer kv);

// Partial results of attention: per part and head head_dim sums, and (largest score, sum of weights) in
// base 2.
struct AttentionParts {
  float* sums = nullptr;    // [parts][heads][head_dim]
  float* scales = nullptr;  // [parts][heads][2]
};
// Blocks that share the work list, as many as the device runs at once: it needs no launch parameter that
// depends on the step.
struct AttentionGrid {
  int32_t small_blocks = 0;
  int32_t large_blocks = 0;
};

// Whether the tensor-core kernel can take this shape; attention_plain takes any.
bool attention_mma_takes(HeadShape shape, KvFormat format);
void attention_mma(Stream stream, const StepHeader* step, HeadShape shape, const float* q, KvLayer kv,
                   AttentionParts parts, AttentionGrid grid);
AttentionGrid attention_mma_grid(HeadShape shape, KvFormat format);
void attention_plain(Stream stream, const StepHeader* step, HeadShape shape, const float* q, KvLayer kv,
                     AttentionParts parts, AttentionGrid grid);
AttentionGrid attention_plain_grid(HeadShape shape, KvFormat format);
// out[rows, heads * head_dim] from the parts, also in bf16.
void attention_merge(Stream stream, const StepHeader* step, int32_t rows, HeadShape shape,
                     AttentionParts parts, float* out, uint16_t* out_bf16);

}  // namespace apar::cuda
