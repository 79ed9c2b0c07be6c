#pragma once

#include <cstdint>

#include "model/llama_layout.h"

namespace apar {

// The rows of a step where nobody says how many: `wanted`, or if that is 0, what suits the device, and
// max_branches at least. A GPU computes a long prompt faster in long steps; a CPU is as fast with 512 rows,
// and then takes less memory and keeps others waiting less.
int32_t step_tokens(int32_t wanted, int32_t max_branches, bool on_host);

// What a model must be opened with for a decoder with these limits.
StepRows step_rows(int32_t max_step_tokens, int32_t max_branches);

}  // namespace apar
