#include "model/weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "common/convert.h"
#include "common/error.h"
#include "model/quantised_layer.h"

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
  if (!is_quantised(tensor.dtype) && tensor.offset % static_cast<uint64_t>(block.bytes) != 0)
    refuse(name, "offset " + std::to_string(tensor.offset) + " is not aligned to its elements");
  return file.subspan(tensor.offset, bytes);
}

Matrix Weights::load(const std::string& name, std::initializer_list<int64_t> shape, DType dtype) {
  const TensorInfo& tensor = find(name, shape);
  const auto source = bytes_of(tensor);
  if (needs_parts(tensor.dtype) || tensor.quantised)
    refuse(name, "is stored as codes, which only linear layers may be");
  const int64_t rows = shape.size() == 2 ? *shape.begin() : 1, cols = *(shape.end() - 1);
  if (tensor.dtype == dtype) return {source.data(), dtype, rows, cols};
  const int64_t count = rows * cols;
  auto owned = allocate(name, apar::stored_bytes(dtype, count));
  convert(source.data(), tensor.dtype, count, owned.get(), dtype);
  converted_.push_back(std::move(owned));
  return {converted_.back().get(), dtype, rows, cols};
}

Matrix Weights::matrix(const std::string& name, int64_t rows, int64_t cols, DType dtype) {
  return load(name, {rows, cols}, dtype);
}

StoredMatrix Weights::stored(const std::string& name, int64_t rows, int64_t cols, DType decoded) const {
  const TensorInfo& tensor = find(name, {rows, cols});
  if (needs_parts(tensor.dtype) || tensor.quantised) return dequantised(tensor, decoded);
  const auto source = bytes_of(tensor);
  const int64_t heads = tensor.interleaved_heads;
  if (heads == 0) return {{source.data(), tensor.dtype, rows, cols}, nullptr};
  if (heads < 0 || rows % (2 * heads) != 0) refuse(name, "its rows cannot be divided among its heads");
  const auto row_bytes = static_cast<size_t>(apar::stored_bytes(tensor.dtype, cols));
  auto copy = allocate(name, apar::stored_bytes(tensor.dtype, rows * cols));
  const int64_t half = rows / heads / 2;
  std::byte* target = copy.get();
  for (int64_t head = 0; head < heads; ++head)
    for (int64_t which = 0; which < 2; ++which)
      for (int64_t i = 0; i < half; ++i, target += row_bytes)
        std::memcpy(target, source.data() + static_cast<size_t>(head * 2 * half + 2 * i + which) * row_bytes,
                    row_bytes);
  const Matrix matrix = {copy.get(), tensor.dtype, rows, cols};
  return {matrix, std::move(copy)};
}

const TensorInfo& Weights::code_part(const std::string& name, int64_t count) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) refuse(name, "missing from the checkpoint");
  int64_t elements = found->second.shape.empty() ? 0 : 1;
  for (const int64_t size : found->second.shape)
    if (size < 1 || __builtin_mul_overflow(elements, size, &elements)) refuse(name, "its size overflows");
  if (elements != count)
    refuse(name, "has " + std::to_string(elements) + " elements, its layer needs " + std::to_string(count));
  return found->second;
}

std::vector<float> Weights::scales(const std::string& name, int64_t count) const {
  const TensorInfo& tensor = code_part(name, count);
  if (needs_parts(tensor.dtype) || is_quantised(tensor.dtype)) refuse(name, "is no tensor of scales");
  const auto source = bytes_of(tensor);
  std::vector<float> scales(static_cast<size_t>(count));
  convert(source.data(), tensor.dtype, count, reinterpret_cast<std::byte*>(scales.data()), DType::f32);
  for (const float scale : scales)
    if (!std::isfinite(scale)) refuse(name, "a scale is not finite");
  return scales;
}

std::span<const std::byte> Weights::words(const std::string& name, int64_t count) const {
  const TensorInfo& tensor = code_part(name, count);
  if (tensor.dtype != DType::i32) refuse(name, "is not stored in words of 32 bits");
  return bytes_of(tensor);
}

// Of each of `cols` inputs, in [0, count).
std::vector<int32_t> Weights::groups(const QuantisedInfo& info, int64_t cols, int64_t count) const {
  std::vector<int32_t> groups(static_cast<size_t>(cols));
  if (info.groups.empty()) {
    for (int64_t i = 0; i < cols; ++i)
      groups[static_cast<size_t>(i)] = static_cast<int32_t>(i / info.block_inputs);
    return groups;
  }
  const auto source = words(info.groups, cols);
  std::memcpy(groups.data(), source.data(), source.size());
  for (const int32_t group : groups)
    if (group < 0 || group >= count)
      refuse(info.groups, "names group " + std::to_string(group) + " of " + std::to_string(count));
  return groups;
}

StoredMatrix Weights::dequantised(const TensorInfo& tensor, DType decoded) const {
  const std::string& name = tensor.name;
  if (!tensor.quantised) refuse(name, "is stored as codes without scales");
  if (!needs_parts(tensor.dtype) || tensor.dtype == DType::i32) refuse(name, "has scales, but no codes");
  const QuantisedInfo& info = *tensor.quantised;
  const int64_t rows = tensor.shape[0], cols = tensor.shape[1];
  if (info.block_outputs < 1 || info.block_inputs < 1) refuse(name, "its scales belong to no weights");
  const auto blocks = [](int64_t size, int64_t block) { return size / block + (size % block != 0); };
  const int64_t groups = blocks(cols, info.block_inputs);
  QuantisedLayer layer = {
      tensor.dtype, rows, cols, bytes_of(tensor).data(), info.block_outputs, info.block_inputs, {}, {}, {}};
  if (tensor.dtype == DType::f8_e4m3) {
    layer.scales = scales(info.scales, blocks(rows, info.block_outputs) * groups);
  } else {
    // Words of zero points hold neighbouring rows, those of AWQ's codes too.
    const int64_t per_word = block_size(tensor.dtype).elements;
    if (rows % per_word != 0) refuse(name, "its rows are no whole number of words");
    layer.scales = scales(info.scales, groups * rows);
    const auto zeros = words(info.zeros, groups * rows / per_word);
    layer.zeros = unpack_zeros(tensor.dtype, zeros.data(), groups * rows, info.zero_offset);
    layer.groups = this->groups(info, cols, groups);
  }
  auto copy = allocate(name, apar::stored_bytes(decoded, rows * cols));
  dequantise(layer, decoded, copy.get());
  // One scale per row, or one for all of them.
  std::vector<float> row_scales;
  if (tensor.dtype == DType::f8_e4m3 && groups == 1)
    for (int64_t row = 0; row < rows; ++row)
      row_scales.push_back(layer.scales[static_cast<size_t>(row / info.block_outputs)]);
  const float* const of_rows = row_scales.empty() ? nullptr : row_scales.data();
  const Matrix matrix = {copy.get(), decoded, rows, cols, of_rows};
  return {matrix, std::move(copy), std::move(row_scales)};
}

void Weights::keep(StoredMatrix stored) {
  if (stored.copy) converted_.push_back(std::move(stored.copy));
}

std::span<const std::byte> Weights::mapped(const std::string& name, int64_t rows, int64_t cols) const {
  return bytes_of(find(name, {rows, cols}));
}

Matrix Weights::vector(const std::string& name, int64_t size) {
  return load(name, {size}, DType::f32);
}

}  // namespace apar
