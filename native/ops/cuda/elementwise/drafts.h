#pragma once

// The kernels of draft heads. As in elementwise.h, all pointers point to device memory.

#include <cstdint>

#include "common/matrix.h"
#include "ops/cuda/device/platform_types.h"

namespace apar::cuda {

// out[i] = x[row_ids[i]], `width` wide, also in bf16.
void pick_rows(Stream stream, const int32_t* row_ids, int32_t rows, int32_t width, const float* x, float* out,
               uint16_t* out_bf16);

// out[i] = table[tokens[i]], also in bf16. The table is f32 or bf16.
void pick_embeddings(Stream stream, const int32_t* tokens, int32_t rows, const Matrix& table, float* out,
                     uint16_t* out_bf16);

// out[count] = x + y, also in bf16. `out` may be x.
void add(Stream stream, int64_t count, const float* x, const float* y, float* out, uint16_t* out_bf16);

// out[count] = x + silu(y), also in bf16. `out` may be x.
void add_silu(Stream stream, int64_t count, const float* x, const float* y, float* out, uint16_t* out_bf16);

// The rows of Ops::top_tokens(): the largest of the first `count` of each row's `stride` logits.
struct TopTokens {
  int32_t stride = 0;
  int32_t count = 0;
  int32_t top_k = 0;
  int32_t* tokens = nullptr;  // [rows, top_k]; -1: there is none
  float* logits = nullptr;    // the same
  float* log_sums = nullptr;  // [rows]
};
void top_tokens(Stream stream, const float* logits, int32_t rows, const TopTokens& wanted);

}  // namespace apar::cuda
