#pragma once

#include <cstddef>
#include <cstdint>

#include "common/model_config.h"

namespace apar {

// Of each group of 128 neighbouring inputs, a scale (f16) and a zero point (0 to 15) per output, as
// WeightFormat::int4_g128 has them: [groups][stride >= rows]. Does not own the data.
struct LongGroups {
  const uint16_t* scales = nullptr;
  const uint8_t* zeros = nullptr;
  int64_t stride = 0;

  static constexpr int64_t kInputs = 128;
  // Those of the outputs from `row` and the groups from `group` on.
  LongGroups from(int64_t row, int64_t group) const {
    if (scales == nullptr) return {};
    return {scales + group * stride + row, zeros + group * stride + row, stride};
  }
};

// Weights as the checkpoint stores them: row-major [rows, cols], aligned to the element size (blocks have no
// alignment, and a row is a whole number of them). A linear layer
// is [out, in], an embedding table [vocab, hidden], a vector has one row. Does not own the data.
struct Matrix {
  const void* data = nullptr;
  DType dtype = DType::f32;
  int64_t rows = 0;
  int64_t cols = 0;
  // Of a matrix that was decoded from FP8: a weight is just row_scales[row] times an e4m3 number.
  const float* row_scales = nullptr;
  // Of a matrix that was decoded from codes of 4 bits: a weight is just scale * (code - zero point).
  LongGroups groups = {};
};

// A linear layer [rows = outputs, cols = inputs] in the memory and layout of the device that
// Ops::place_linear put it on; only that device can interpret `data`.
struct Linear {
  const void* data = nullptr;
  WeightFormat format = WeightFormat::f32;
  int64_t rows = 0;
  int64_t cols = 0;
};

// The smallest piece of a row that can be read by itself.
struct BlockSize {
  int32_t elements;
  int32_t bytes;
};
constexpr BlockSize block_size(DType dtype) {
  switch (dtype) {
    case DType::f32:
    case DType::i32:
      return {1, 4};
    case DType::f8_e4m3:
      return {1, 1};
    case DType::awq_4:
    case DType::gptq_4:
      return {8, 4};
    case DType::gptq_8:
      return {4, 4};
    case DType::bf16:
    case DType::f16:
      return {1, 2};
    case DType::q8_0:
      return {32, 34};
    case DType::q4_0:
    case DType::iq4_nl:
      return {32, 18};
    case DType::q4_1:
      return {32, 20};
    case DType::q5_0:
      return {32, 22};
    case DType::q5_1:
      return {32, 24};
    case DType::q2_k:
      return {256, 84};
    case DType::q3_k:
      return {256, 110};
    case DType::q4_k:
      return {256, 144};
    case DType::q5_k:
      return {256, 176};
    case DType::q6_k:
      return {256, 210};
  }
  return {1, 1};
}
// Codes, or parts of a matrix of codes: no weights without the other parts (TensorInfo::quantised).
constexpr bool needs_parts(DType dtype) {
  return dtype >= DType::f8_e4m3;
}
constexpr bool is_quantised(DType dtype) {
  return block_size(dtype).elements > 1;
}
// Bytes of `count` elements, a whole number of blocks.
constexpr int64_t stored_bytes(DType dtype, int64_t count) {
  return count / block_size(dtype).elements * block_size(dtype).bytes;
}
// The rows [first, first + count) of a matrix.
inline Matrix row_slice(const Matrix& w, int64_t first, int64_t count) {
  return {static_cast<const std::byte*>(w.data) + first * stored_bytes(w.dtype, w.cols),
          w.dtype,
          count,
          w.cols,
          w.row_scales ? w.row_scales + first : nullptr,
          w.groups.from(first, 0)};
}

constexpr uint64_t element_bytes(KvFormat format) {
  return format == KvFormat::f32 ? 4 : format == KvFormat::bf16 ? 2 : 1;
}

}  // namespace apar
