#pragma once

#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/matrix.h"
#include "common/model_config.h"
#include "model/mapped_file.h"

namespace apar {

// The tensors of a checkpoint by name. A tensor of the wanted dtype is used where it is mapped; another is
// converted once, into memory owned here. Every error is Error{invalid_weights} and names the tensor or the
// file.
class Weights {
 public:
  // Maps every file. Refuses a name that occurs twice.
  explicit Weights(const WeightTable& table);

  // The tensor `name` of exactly shape [rows, cols], as f32 or bf16 (rounded to nearest even where the source
  // is finer). Refuses a tensor that is missing, misshapen, not aligned to its element, or out of its file's
  // bounds; also throws Error{out_of_memory}. The result lives as long as this object.
  Matrix matrix(const std::string& name, int64_t rows, int64_t cols, DType dtype);

  // The same in the dtype of the checkpoint, where it is mapped.
  Matrix stored(const std::string& name, int64_t rows, int64_t cols) const;

  // The one-dimensional tensor `name` of exactly `size` elements, as a one-row f32 matrix.
  Matrix vector(const std::string& name, int64_t size);

  bool contains(const std::string& name) const { return tensors_.contains(name); }

 private:
  std::span<const std::byte> find(const std::string& name, std::initializer_list<int64_t> shape,
                                  DType& dtype) const;
  Matrix load(const std::string& name, std::initializer_list<int64_t> shape, DType dtype);

  std::vector<MappedFile> files_;
  std::unordered_map<std::string, TensorInfo> tensors_;
  std::vector<std::unique_ptr<std::byte[]>> converted_;
};

}  // namespace apar
