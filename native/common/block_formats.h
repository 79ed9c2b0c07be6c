#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "common/matrix.h"

namespace apar {

constexpr int32_t kMaxBlockElements = 256;

// The weights of one block in f32: block_size(dtype).elements of them. The formats are those of GGUF files
// (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md); `block` may have any alignment.
void decode_block(DType dtype, const std::byte* block, float* weights);

// The scale (f16) of inputs [group * 32, group * 32 + 32) of a row if a linear layer of this format holds
// exactly the same weights with that scale: q8_0 in int8, q4_0 in int4. Nothing for other pairs.
std::optional<uint16_t> shared_scale(const Matrix& w, WeightFormat format, int64_t row, int64_t group);

}  // namespace apar
