#include "model/weights.h"

#include <algorithm>
#include <cstring>
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

std::unique_ptr<std::byte[]> allocate(const std::string& name, int64_t bytes) {
  std::unique_ptr<std::byte[]> owned(new (std::nothrow) std::byte[static_cast<size_t>(bytes)]);
  if (!owned) throw Error(ErrorCode::out_of_memory, name + ": not enough memory to convert it");
  return owned;
}

// Copies rows into order: those that belong to each head's first half, then those of its second half.
void put_in_order(const TensorInfo& tensor, const std::byte* from, int64_t rows, size_t row_bytes,
                  std::byte* to) {
  const int64_t heads = tensor.interleaved_heads;
  if (heads < 0 || rows % (2 * heads) != 0) refuse(tensor.name, "its rows cannot be divided among its heads");
  const int64_t half = rows / heads / 2;
  for (int64_t head = 0; head < heads; ++head)
    for (int64_t which = 0; which < 2; ++which)
      for (int64_t i = 0; i < half; ++i, to += row_bytes)
        std::memcpy(to, from + static_cast<size_t>(head * 2 * half + 2 * i + which) * row_bytes, row_bytes);
}

// Blocks of quantised weights are read byte by byte.
bool is_aligned(const TensorInfo& tensor) {
  return is_quantised(tensor.dtype) ||
         tensor.offset % static_cast<uint64_t>(block_size(tensor.dtype).bytes) == 0;
}

}  // namespace

Weights::Weights(const WeightTable& table) {
  files_.reserve(table.files.size());
  for (const std::string& path : table.files) files_.emplace_back(path);
  for (const TensorInfo& tensor : table.tensors)
    if (!tensors_.emplace(tensor.name, tensor).second) refuse(tensor.name, "listed twice");
}

const TensorInfo& Weights::find(const std::string& name, std::initializer_list<int64_t> shape) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) refuse(name, "missing from the checkpoint");
  const TensorInfo& tensor = found->second;
  if (!std::equal(tensor.shape.begin(), tensor.shape.end(), shape.begin(), shape.end()))
    refuse(name, "has shape " + describe(tensor.shape) + ", the configuration needs " + describe(shape));
  return tensor;
}

std::span<const std::byte> Weights::bytes_of(const TensorInfo& tensor) const {
  const std::string& name = tensor.name;
  if (tensor.file < 0 || tensor.file >= static_cast<int64_t>(files_.size()))
    refuse(name, "is in file " + std::to_string(tensor.file) + " of " + std::to_string(files_.size()));
  const BlockSize block = block_size(tensor.dtype);
  if (tensor.shape.back() % block.elements != 0) refuse(name, "its rows are no whole number of blocks");
  uint64_t bytes = static_cast<uint64_t>(block.bytes), end = 0;
  for (size_t i = 0; i < tensor.shape.size(); ++i) {
    const int64_t size = tensor.shape[i] / (i + 1 == tensor.shape.size() ? block.elements : 1);
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes))
      refuse(name, "its size overflows");
  }
  const auto file = files_[static_cast<size_t>(tensor.file)].bytes();
  if (__builtin_add_overflow(tensor.offset, bytes, &end) || end > file.size())
    refuse(name, "ends past the end of its file (" + std::to_string(file.size()) + " bytes)");
  return file.subspan(tensor.offset, bytes);
}

Matrix Weights::load(const std::string& name, std::initializer_list<int64_t> shape, DType dtype) {
  const TensorInfo& tensor = find(name, shape);
  const auto source = bytes_of(tensor);
  const int64_t rows = shape.size() == 2 ? *shape.begin() : 1, cols = *(shape.end() - 1);
  if (tensor.dtype == dtype && is_aligned(tensor)) return {source.data(), dtype, rows, cols};
  const int64_t count = rows * cols;
  auto owned = allocate(name, apar::stored_bytes(dtype, count));
  if (tensor.dtype == dtype)
    std::memcpy(owned.get(), source.data(), source.size());
  else
    convert(source.data(), tensor.dtype, count, owned.get(), dtype);
  converted_.push_back(std::move(owned));
  return {converted_.back().get(), dtype, rows, cols};
}

Matrix Weights::matrix(const std::string& name, int64_t rows, int64_t cols, DType dtype) {
  return load(name, {rows, cols}, dtype);
}

StoredMatrix Weights::stored(const std::string& name, int64_t rows, int64_t cols) const {
  const TensorInfo& tensor = find(name, {rows, cols});
  const auto source = bytes_of(tensor);
  const bool in_order = tensor.interleaved_heads == 0;
  if (in_order && is_aligned(tensor)) return {{source.data(), tensor.dtype, rows, cols}, nullptr};
  auto copy = allocate(name, apar::stored_bytes(tensor.dtype, rows * cols));
  if (in_order)
    std::memcpy(copy.get(), source.data(), source.size());
  else
    put_in_order(tensor, source.data(), rows, static_cast<size_t>(apar::stored_bytes(tensor.dtype, cols)),
                 copy.get());
  const Matrix matrix = {copy.get(), tensor.dtype, rows, cols};
  return {matrix, std::move(copy)};
}

void Weights::keep(StoredMatrix stored) {
  if (stored.copy) converted_.push_back(std::move(stored.copy));
}

std::span<const std::byte> Weights::mapped(const std::string& name, int64_t rows, int64_t cols) const {
  return bytes_of(find(name, {rows, cols}));
}

Matrix Weights::vector(const std::string& name, int64_t size) {
  const Matrix stored = load(name, {size}, DType::f32);
  const TensorInfo& tensor = tensors_.at(name);
  if (tensor.interleaved_heads == 0) return stored;
  auto ordered = allocate(name, apar::stored_bytes(DType::f32, size));
  put_in_order(tensor, static_cast<const std::byte*>(stored.data), size, sizeof(float), ordered.get());
  converted_.push_back(std::move(ordered));
  return {converted_.back().get(), DType::f32, 1, size};
}

}  // namespace apar
