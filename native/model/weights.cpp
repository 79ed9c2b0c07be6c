#include "model/weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "common/convert.h"
#include "common/error.h"
#include "common/in_parallel.h"

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

// With the rows that an adapter adds.
std::vector<int64_t> whole_shape(const TensorInfo& tensor) {
  std::vector<int64_t> shape = tensor.shape;
  if (!shape.empty())
    for (const int32_t row : tensor.replaced_rows) shape[0] = std::max(shape[0], int64_t{row} + 1);
  return shape;
}

// Every row that an adapter replaces or adds is there once, and so is every row beyond the stored ones.
void check_replaced_rows(const TensorInfo& tensor, int64_t rows) {
  std::vector<int32_t> sorted = tensor.replaced_rows;
  std::sort(sorted.begin(), sorted.end());
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end())
    refuse(tensor.name, "a row is replaced twice");
  if (!sorted.empty() && sorted.front() < 0) refuse(tensor.name, "a negative row is replaced");
  const auto added = std::lower_bound(sorted.begin(), sorted.end(), tensor.shape[0]);
  if (tensor.shape[0] + (sorted.end() - added) != rows) refuse(tensor.name, "an added row is missing");
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

// On all cores: an embedding table may be a third of a small model.
void convert_rows(const Matrix& from, DType dtype, std::byte* to) {
  constexpr int64_t kRowsPerTask = 512;
  const int64_t tasks = (from.rows + kRowsPerTask - 1) / kRowsPerTask;
  in_parallel(static_cast<size_t>(tasks), [&](size_t task) {
    const int64_t first = static_cast<int64_t>(task) * kRowsPerTask;
    const int64_t count = std::min(kRowsPerTask, from.rows - first);
    const Matrix rows = row_slice(from, first, count);
    convert(static_cast<const std::byte*>(rows.data), from.dtype, count * from.cols,
            to + stored_bytes(dtype, first * from.cols), dtype);
  });
}

void refuse_codes(const TensorInfo& tensor) {
  if (needs_parts(tensor.dtype) || tensor.quantised)
    refuse(tensor.name, "is stored as codes, which only linear layers may be");
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
  const std::vector<int64_t> whole = whole_shape(tensor);
  if (!std::equal(whole.begin(), whole.end(), shape.begin(), shape.end()))
    refuse(name, "has shape " + describe(whole) + ", the configuration needs " + describe(shape));
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

Matrix Weights::matrix(const std::string& name, int64_t rows, int64_t cols, DType dtype) {
  refuse_codes(find(name, {rows, cols}));
  StoredMatrix found = stored(name, rows, cols, dtype);
  Matrix matrix = found.matrix;
  if (matrix.dtype != dtype) {
    auto owned = allocate(name, apar::stored_bytes(dtype, rows * cols));
    convert_rows(matrix, dtype, owned.get());
    matrix = {owned.get(), dtype, rows, cols};
    found.copy = std::move(owned);
  }
  if (found.copy) release_pages(mapped(name, rows, cols));
  keep(std::move(found));
  return matrix;
}

StoredMatrix Weights::stored(const std::string& name, int64_t rows, int64_t cols, DType decoded) const {
  const TensorInfo& tensor = find(name, {rows, cols});
  const bool is_codes = needs_parts(tensor.dtype) || tensor.quantised;
  // What an adapter is added to is rounded afterwards.
  const DType base_dtype = tensor.updated() ? DType::f32 : decoded;
  StoredMatrix base = is_codes ? dequantised(tensor, base_dtype) : in_order(tensor);
  if (!tensor.updated()) return base;
  const MatrixUpdate update = update_of(tensor, rows, cols);
  auto copy = allocate(name, apar::stored_bytes(decoded, rows * cols));
  merge_update(base.matrix, update, copy.get(), decoded, rows);
  for (const Matrix& read : {update.a, update.b, update.new_rows})
    release_pages({static_cast<const std::byte*>(read.data),
                   static_cast<size_t>(apar::stored_bytes(read.dtype, read.rows * read.cols))});
  const Matrix matrix = {copy.get(), decoded, rows, cols};
  return {matrix, std::move(copy)};
}

StoredMatrix Weights::in_order(const TensorInfo& tensor) const {
  const auto source = bytes_of(tensor);
  const int64_t rows = tensor.shape[0], cols = tensor.shape[1];
  const bool interleaved = tensor.interleaved_heads != 0;
  if (!interleaved && is_aligned(tensor)) return {{source.data(), tensor.dtype, rows, cols}, nullptr};
  auto copy = allocate(tensor.name, apar::stored_bytes(tensor.dtype, rows * cols));
  if (interleaved)
    put_in_order(tensor, source.data(), rows, static_cast<size_t>(apar::stored_bytes(tensor.dtype, cols)),
                 copy.get());
  else
    std::memcpy(copy.get(), source.data(), source.size());
  const Matrix matrix = {copy.get(), tensor.dtype, rows, cols};
  return {matrix, std::move(copy)};
}

MatrixUpdate Weights::update_of(const TensorInfo& tensor, int64_t rows, int64_t cols) const {
  MatrixUpdate update;
  check_replaced_rows(tensor, rows);
  if (tensor.lora) {
    const bool transposed = tensor.lora->transposed;
    const std::string a = tensor.name + ".lora_A", b = tensor.name + ".lora_B";
    const auto found = tensors_.find(a);
    if (found == tensors_.end() || found->second.shape.empty()) refuse(a, "missing from the checkpoint");
    if (tensor.shape[0] != rows) refuse(tensor.name, "has LoRA and added rows");
    const int64_t rank = found->second.shape[0];
    if (rank < 1) refuse(a, "has no rank");
    update.a = part(a, rank, transposed ? rows : cols);
    update.b = part(b, transposed ? cols : rows, rank);
    update.scale = tensor.lora->scale;
    update.transposed = transposed;
  }
  if (!tensor.replaced_rows.empty())
    update.new_rows = part(tensor.name + ".rows", static_cast<int64_t>(tensor.replaced_rows.size()), cols);
  update.rows_replaced = tensor.replaced_rows;
  return update;
}

Matrix Weights::part(const std::string& name, int64_t rows, int64_t cols) const {
  const TensorInfo& tensor = find(name, {rows, cols});
  refuse_codes(tensor);
  return {bytes_of(tensor).data(), tensor.dtype, rows, cols};
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
  LongGroupParts own = long_groups(layer).value_or(LongGroupParts{});
  const LongGroups shared =
      own.scales.empty() ? LongGroups{} : LongGroups{own.scales.data(), own.zeros.data(), rows};
  const Matrix matrix = {copy.get(), decoded, rows, cols, of_rows, shared};
  return {matrix, std::move(copy), std::move(row_scales), std::move(own)};
}

void Weights::keep(StoredMatrix stored) {
  if (stored.copy) converted_.push_back(std::move(stored.copy));
}

std::span<const std::byte> Weights::mapped(const std::string& name, int64_t rows, int64_t cols) const {
  return bytes_of(find(name, {rows, cols}));
}

Matrix Weights::vector(const std::string& name, int64_t size) {
  const TensorInfo& tensor = find(name, {size});
  refuse_codes(tensor);
  const auto source = bytes_of(tensor);
  const bool interleaved = tensor.interleaved_heads != 0;
  if (tensor.dtype == DType::f32 && !interleaved && is_aligned(tensor))
    return {source.data(), DType::f32, 1, size};
  auto owned = allocate(name, apar::stored_bytes(DType::f32, size));
  convert(source.data(), tensor.dtype, size, owned.get(), DType::f32);
  if (interleaved) {
    auto ordered = allocate(name, apar::stored_bytes(DType::f32, size));
    put_in_order(tensor, owned.get(), size, sizeof(float), ordered.get());
    owned = std::move(ordered);
  }
  converted_.push_back(std::move(owned));
  return {converted_.back().get(), DType::f32, 1, size};
}

}  // namespace apar
