#pragma once

// Attention of a step's rows over the KV tree, by the step's work list (step/attention_work.h). Shapes in
// elements, all pointers in device memory; bf16 is passed as its bits.

#include <cstdint>

#include "ops/cuda/device/platform_types.h"
#include "ops/cuda/step/kv_layout.h"
#include "ops/cuda/step/step_data.h"

namespace apar::cuda {

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
