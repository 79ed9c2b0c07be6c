#pragma once

#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/matrix.h"
#include "common/model_config.h"
#include "model/lora.h"
#include "model/mapped_file.h"
#include "model/quantised_layer.h"

namespace apar {

// A matrix in its mapping, or in `copy` if its rows had to be put into order (TensorInfo::interleaved_heads),
// its codes decoded (TensorInfo::quantised) or an adapter merged, or if it was not aligned.
struct StoredMatrix {
  Matrix matrix;
  std::unique_ptr<std::byte[]> copy;
  std::vector<float> row_scales = {};  // Matrix::row_scales
  LongGroupParts groups = {};          // Matrix::groups
};

// The tensors of a checkpoint by name. A tensor that already has the requested dtype is used from its
// mapping, if it is aligned to its elements there; any other is converted once, into memory owned here, and
// its pages of the mapping are given back.
// Errors are Error{invalid_weights} and name the tensor or the file.
class Weights {
 public:
  // Maps every file. Throws if a tensor name occurs twice.
  explicit Weights(const WeightTable& table);

  // The tensor `name`, of exactly the shape [rows, cols] and with what an adapter changes, as f32 or bf16
  // (rounded to nearest even if the source is more precise). Throws if the tensor is missing, has another
  // shape or is out of its file's bounds; also throws Error{out_of_memory}. The result is valid for the
  // lifetime of this object.
  Matrix matrix(const std::string& name, int64_t rows, int64_t cols, DType dtype);

  // The same in the checkpoint's dtype, or in `decoded`, f32 or bf16, if it is stored as codes or an adapter
  // changes it. Lives as long as the result; with keep(), as long as this object.
  StoredMatrix stored(const std::string& name, int64_t rows, int64_t cols, DType decoded = DType::f32) const;
  void keep(StoredMatrix stored);
  // Its bytes in the mapping.
  std::span<const std::byte> mapped(const std::string& name, int64_t rows, int64_t cols) const;

  // The one-dimensional tensor `name`, of exactly `size` elements, as an f32 matrix with one row, in order.
  Matrix vector(const std::string& name, int64_t size);

  bool contains(const std::string& name) const { return tensors_.contains(name); }

 private:
  const TensorInfo& find(const std::string& name, std::initializer_list<int64_t> shape) const;
  std::span<const std::byte> bytes_of(const TensorInfo& tensor) const;
  StoredMatrix in_order(const TensorInfo& tensor) const;
  MatrixUpdate update_of(const TensorInfo& tensor, int64_t rows, int64_t cols) const;
  Matrix part(const std::string& name, int64_t rows, int64_t cols) const;
  // The part `name` of a matrix of codes, which must have `count` elements: numbers, or whole words.
  const TensorInfo& code_part(const std::string& name, int64_t count) const;
  std::vector<float> scales(const std::string& name, int64_t count) const;
  std::span<const std::byte> words(const std::string& name, int64_t count) const;
  std::vector<int32_t> groups(const QuantisedInfo& info, int64_t cols, int64_t count) const;
  StoredMatrix dequantised(const TensorInfo& tensor, DType decoded) const;

  std::vector<MappedFile> files_;
  std::unordered_map<std::string, TensorInfo> tensors_;
  std::vector<std::unique_ptr<std::byte[]>> converted_;
};

}  // namespace apar
