#include "model/weights.h"

#include <algorithm>
#include <new>

#include "common/convert.h"
#include "common/error.h"

namespace apar {
namespace {

[[noreturn]] void refuse(const std::string& name, const std::string& what) {
  throw Error(ErrorCode::invalid_weights, name + ": " + what);
}

template <class Shape>
std::string describe(const Shape& shape) {
  std::string text = "[";
  for (const int64_t size : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

}  // namespace

Weights::Weights(const WeightTable& table) {
  files_.reserve(table.files.size());
  for (const std::string& path : table.files) files_.emplace_back(path);
  for (const TensorInfo& tensor : table.tensors)
    if (!tensors_.emplace(tensor.name, tensor).second) refuse(tensor.name, "listed twice");
}

std::span<const std::byte> Weights::find(const std::string& name, std::initializer_list<int64_t> shape,
                                         DType& dtype) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) refuse(name, "missing from the checkpoint");
  const TensorInfo& tensor = found->second;
  if (!std::equal(tensor.shape.begin(), tensor.shape.end(), shape.begin(), shape.end()))
    refuse(name, "has shape " + describe(tensor.shape) + ", the configuration needs " + describe(shape));
  if (tensor.file < 0 || tensor.file >= static_cast<int64_t>(files_.size()))
    refuse(name, "is in file " + std::to_string(tensor.file) + " of " + std::to_string(files_.size()));
  dtype = tensor.dtype;
  uint64_t bytes = element_bytes(dtype), end = 0;
  for (const int64_t size : shape)
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes))
      refuse(name, "its size overflows");
  const auto file = files_[tensor.file].bytes();
  if (__builtin_add_overflow(tensor.offset, bytes, &end) || end > file.size())
    refuse(name, "ends past the end of its file (" + std::to_string(file.size()) + " bytes)");
  if (tensor.offset % element_bytes(dtype) != 0)
    refuse(name, "offset " + std::to_string(tensor.offset) + " is not aligned to its elements");
  return file.subspan(tensor.offset, bytes);
}

Matrix Weights::load(const std::string& name, std::initializer_list<int64_t> shape, DType dtype) {
  DType stored = DType::f32;
  const auto source = find(name, shape, stored);
  const int64_t rows = shape.size() == 2 ? *shape.begin() : 1, cols = *(shape.end() - 1);
  if (stored == dtype) return {source.data(), dtype, rows, cols};
  const int64_t count = rows * cols;
  std::unique_ptr<std::byte[]> owned(new (std::nothrow) std::byte[count * element_bytes(dtype)]);
  if (!owned) throw Error(ErrorCode::out_of_memory, name + ": not enough memory to convert it");
  convert(source.data(), stored, count, owned.get(), dtype);
  converted_.push_back(std::move(owned));
  return {converted_.back().get(), dtype, rows, cols};
}

Matrix Weights::matrix(const std::string& name, int64_t rows, int64_t cols, DType dtype) {
  return load(name, {rows, cols}, dtype);
}

Matrix Weights::stored(const std::string& name, int64_t rows, int64_t cols) const {
  DType dtype = DType::f32;
  const auto source = find(name, {rows, cols}, dtype);
  return {source.data(), dtype, rows, cols};
}

Matrix Weights::vector(const std::string& name, int64_t size) {
  return load(name, {size}, DType::f32);
}

}  // namespace apar
