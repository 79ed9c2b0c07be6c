#include "common/convert.h"

#include <cstring>

#include "common/block_formats.h"
#include "common/float16.h"

namespace apar {
namespace {

template <class Element>
Element read(const std::byte* source, int64_t index) {
  Element element;
  std::memcpy(&element, source + index * sizeof(Element), sizeof(Element));
  return element;
}

template <class Element>
void write(std::byte* target, int64_t index, Element element) {
  std::memcpy(target + index * sizeof(Element), &element, sizeof(Element));
}

template <DType kFrom>
float read_f32(const std::byte* source, int64_t index) {
  if constexpr (kFrom == DType::f32) return read<float>(source, index);
  const auto bits = read<uint16_t>(source, index);
  return kFrom == DType::bf16 ? bf16_to_f32(bits) : f16_to_f32(bits);
}

template <DType kFrom>
void convert_from(const std::byte* source, int64_t count, std::byte* target, DType to) {
  if (to == DType::f32)
    for (int64_t i = 0; i < count; ++i) write(target, i, read_f32<kFrom>(source, i));
  else
    for (int64_t i = 0; i < count; ++i) write(target, i, f32_to_bf16(read_f32<kFrom>(source, i)));
}

void convert_blocks(const std::byte* source, DType from, int64_t count, std::byte* target, DType to) {
  const BlockSize block = block_size(from);
  float weights[kMaxBlockElements];
  for (int64_t i = 0; i < count; i += block.elements, source += block.bytes) {
    decode_block(from, source, weights);
    convert_from<DType::f32>(reinterpret_cast<const std::byte*>(weights), block.elements,
                             target + stored_bytes(to, i), to);
  }
}

}  // namespace

void convert(const std::byte* source, DType from, int64_t count, std::byte* target, DType to) {
  if (from == DType::f32)
    convert_from<DType::f32>(source, count, target, to);
  else if (from == DType::bf16)
    convert_from<DType::bf16>(source, count, target, to);
  else if (from == DType::f16)
    convert_from<DType::f16>(source, count, target, to);
  else
    convert_blocks(source, from, count, target, to);
}

Matrix with_plain_elements(const Matrix& w, std::vector<float>& scratch) {
  if (!is_quantised(w.dtype)) return w;
  scratch.resize(static_cast<size_t>(w.rows * w.cols));
  convert(static_cast<const std::byte*>(w.data), w.dtype, w.rows * w.cols,
          reinterpret_cast<std::byte*>(scratch.data()), DType::f32);
  return {scratch.data(), DType::f32, w.rows, w.cols};
}

}  // namespace apar
