#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "common/matrix.h"

namespace apar {

// What an adapter changes in a matrix W [rows, cols] when it is merged (LoRA, arXiv 2106.09685, as peft
// stores it).
struct MatrixUpdate {
  // W + scale * B · A, with A [rank, cols] and B [rows, rank]. Of an embedding table, peft trains the
  // transposed matrix: then W + scale * (B · A)ᵀ, with A [rank, rows] and B [cols, rank]. No rows: no LoRA.
  Matrix a, b;
  float scale = 0;
  bool transposed = false;
  // Row i of new_rows [rows_replaced.size(), cols] becomes row rows_replaced[i] of W.
  Matrix new_rows;
  std::span<const int32_t> rows_replaced;
};

// Writes the updated matrix [rows, base.cols] to `target` as f32 or bf16, on all cores. All arithmetic is
// f32, rounded once. Rows beyond those of `base` are expected among rows_replaced.
void merge_update(const Matrix& base, const MatrixUpdate& update, std::byte* target, DType dtype,
                  int64_t rows);

}  // namespace apar
