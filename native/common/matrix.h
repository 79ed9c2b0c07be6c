#pragma once

#include <cstdint>

#include "common/model_config.h"

namespace apar {

// Weights as the checkpoint stores them: row-major [rows, cols], aligned to the element size. A linear layer
// is [out, in], an embedding table [vocab, hidden], a vector has one row. Does not own the data.
struct Matrix {
  const void* data = nullptr;
  DType dtype = DType::f32;
  int64_t rows = 0;
  int64_t cols = 0;
};

// A linear layer [rows = outputs, cols = inputs] in the memory and layout of the device that
// Ops::place_linear put it on; only that device can interpret `data`.
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
