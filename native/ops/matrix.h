#pragma once

#include <cstdint>

#include "model/config.h"

namespace apar {

// Weights as the checkpoint stores them: row-major [rows, cols], f32 or bf16, aligned to their element. A
// linear layer is [out, in], an embedding table [vocab, hidden], a vector has one row. Borrowed.
struct Matrix {
  const void* data = nullptr;
  DType dtype = DType::f32;
  int64_t rows = 0;
  int64_t cols = 0;
};

constexpr uint64_t element_bytes(DType dtype) {
  return dtype == DType::f32 ? 4 : 2;
}

}  // namespace apar
