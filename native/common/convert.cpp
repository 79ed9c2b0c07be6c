#include "common/convert.h"

#include <cstring>

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

}  // namespace

void convert(const std::byte* source, DType from, int64_t count, std::byte* target, DType to) {
  if (from == DType::f32)
    convert_from<DType::f32>(source, count, target, to);
  else if (from == DType::bf16)
    convert_from<DType::bf16>(source, count, target, to);
  else
    convert_from<DType::f16>(source, count, target, to);
}

}  // namespace apar
