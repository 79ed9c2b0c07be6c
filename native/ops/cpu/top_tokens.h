#pragma once

#include <span>

#include "ops/cpu/kernels.h"
#include "ops/ops.h"

namespace apar::cpu {

// One row of Ops::top_tokens(). logits[count] is overwritten; the result is log_sum. count may be 0.
float top_tokens(const Kernels& kernels, float* logits, int64_t count, std::span<TokenLogit> top);

}  // namespace apar::cpu
