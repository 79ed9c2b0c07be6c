#pragma once

// Plain functions that launch the row-wise kernels. Shapes are in elements, and all pointers point to device
// memory. A launch depends on the number of rows, never on the step's data. `rows` may be padded beyond the
// step's rows; the results of such rows are undefined and never read. bf16 is passed as uint16_t bits.

#include <cstdint>

#include "common/model_config.h"
#include "ops/cuda/device/platform_types.h"
#include "ops/cuda/step/kv_layout.h"
#include "ops/cuda/step/step_data.h"

namespace apar::cuda {

// out[rows, width] = table[token of each row].
void embed(Stream stream, const StepHeader* step, int32_t rows, const void* table, DType dtype, int32_t width,
           float* out);

// x += residual (if not null); out = x / sqrt(mean(x^2) + eps) * weight, also in bf16. `out` may alias
// `residual`.
void add_rms_norm(Stream stream, int32_t rows, int32_t width, float eps, float* x, const float* residual,
                  const float* weight, float* out, uint16_t* out_bf16);

// gate[count] = silu(gate) * up, also in bf16.
void swiglu(Stream stream, int64_t count, float* gate, const float* up, uint16_t* gate_bf16);

// out[i] = x[logit row i], `width` wide, also in bf16.
void gather_logit_rows(Stream stream, const StepHeader* step, int32_t rows, int32_t width, const float* x,
                       float* out, uint16_t* out_bf16);

// sum[count] = partials[0][count] + partials[1][count] + ..., in that order.
void add_partials(Stream stream, int32_t num_partials, int64_t count, const float* partials, float* sum);

// The first 2 * pairs elements of every query and key head are rotated, element i paired with i + pairs.
struct Rotation {
  const float* angles = nullptr;  // [position][pairs][cos, sin]
  int32_t pairs = 0;              // at most head_dim / 2; 0: no rotation
};

// The weights [head_dim] of an RMS norm of every query and key head before the rotation; null: no norm.
struct HeadNorms {
  const float* q = nullptr;
  const float* k = nullptr;
  float eps = 0;
};

// Norms and rotates q and k in place and writes k and v to the rows' slots of the pool.
void rope_and_store(Stream stream, const StepHeader* step, int32_t rows, HeadShape shape, HeadNorms norms,
                    Rotation rotation, float* q, float* k, const float* v, KvLayer kv);

}  // namespace apar::cuda
