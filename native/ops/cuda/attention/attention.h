#pragma once

// Attention of a step's rows over the KV tree, driven by the step's work list (step/attention_work.h). Shapes
// are in elements, all pointers point to device memory, and bf16 is passed as uint16_t bits.

#include <cstdint>

#include "ops/cuda/device/platform_types.h"
#include "ops/cuda/step/kv_layout.h"
#include "ops/cuda/step/step_data.h"

namespace apar::cuda {

// Partial results of attention. Each has, per head, head_dim weighted sums of values, and the largest score
// and the sum of weights, both in base 2.
struct AttentionPartials {
  float* sums = nullptr;    // [partials][heads][head_dim]
  float* scales = nullptr;  // [partials][heads][2]
};
// The blocks that share the items of the work list: as many as the device runs at once. So no launch
// parameter depends on the step.
struct AttentionGrid {
  int32_t blocks = 0;
  int32_t depth = 2;  // of a warp's ring in attention_mma (task.cuh)
};

// Whether the tensor-core kernel supports this shape; attention_plain supports any.
bool attention_mma_supports(HeadShape shape, KvFormat format);
void attention_mma(Stream stream, const StepHeader* step, HeadShape shape, const float* q, KvLayer kv,
                   AttentionPartials partials, AttentionGrid grid);
AttentionGrid attention_mma_grid(HeadShape shape, KvFormat format);
void attention_plain(Stream stream, const StepHeader* step, HeadShape shape, const float* q, KvLayer kv,
                     AttentionPartials partials, AttentionGrid grid);
AttentionGrid attention_plain_grid(HeadShape shape, KvFormat format);
// Merges the partial results into out[rows, heads * head_dim], also in bf16.
void attention_merge(Stream stream, const StepHeader* step, int32_t rows, HeadShape shape,
                     AttentionPartials partials, float* out, uint16_t* out_bf16);

}  // namespace apar::cuda
