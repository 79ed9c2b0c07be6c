#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/matrix.h"

namespace apar {

// Converts `count` elements of a checkpoint, a whole number of blocks, to f32 (exact for plain types) or bf16
// (rounds to nearest even). Both pointers may have any alignment.
void convert(const std::byte* source, DType from, int64_t count, std::byte* target, DType to);

// A matrix whose elements can be read one by one: `w` itself, or if it is stored in blocks its weights as f32
// in `scratch`.
Matrix with_plain_elements(const Matrix& w, std::vector<float>& scratch);

}  // namespace apar
