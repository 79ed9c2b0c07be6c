#pragma once

#include <cstddef>
#include <cstdint>

#include "common/model_config.h"

namespace apar {

// Converts `count` elements of a checkpoint to f32 (exact) or bf16 (rounds to nearest even). Both pointers
// may have any alignment.
void convert(const std::byte* source, DType from, int64_t count, std::byte* target, DType to);

}  // namespace apar
