#pragma once

#include <cstddef>
#include <cstdint>

#include "common/model_config.h"

namespace apar {

// Elements of a checkpoint in another dtype: widening is exact, narrowing (to bf16 only) rounds to nearest
// even. The target is f32 or bf16; both may have any alignment.
void convert(const std::byte* source, DType from, int64_t count, std::byte* target, DType to);

}  // namespace apar
