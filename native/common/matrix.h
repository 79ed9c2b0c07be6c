#pragma once

#include <cstdint>

#include "common/model_config.h"

namespace apar {

// Weights as the checkpoint stores them: row-major [rows, cols], aligned to their element. A linear layer is
// [out, in], an embedding table [vocab, hidden], a vector has one row. Borrowed.
struct Matrix {
  const void* data = nullptr;
  DType dtype = DType::f32;
  int64_t rows = 0;
  int64_t cols = 0;
};

// A linear layer [rows = outputs, cols = inputs] in the layout and memory of the device that made it
// (Ops::place_linear); only that device knows what `data` points to.
struct Linear {
  const void* data = nullptr;
  WeightFormat format = WeightFormat::f32;
  int64_t rows = 0;
  int64_t cols = 0;
};

constexpr uint64_t element_bytes(DType dtype) {
  return dtype == DType::f32 ? 4 : 2;
}
constexpr uint64_t element_bytes(KvFormat format) {
  return format == KvFormat::f32 ? 4 : format == KvFormat::bf16 ? 2 : 1;
}

}  // namespace apar
