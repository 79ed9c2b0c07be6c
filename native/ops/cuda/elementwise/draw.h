#pragma once

#include <cstdint>

#include "common/token_draw.h"
#include "ops/cuda/device/platform_types.h"

namespace apar::cuda {

// Samples drawn[rows] from logits[rows, vocab]; all arrays are in device memory. vocab is at most 2^20.
void draw_tokens(Stream stream, const float* logits, int32_t rows, int32_t vocab, const TokenDraw* draws,
                 DrawnToken* drawn);

}  // namespace apar::cuda
