#pragma once

#include <cstddef>
#include <cstdint>
#include "common/step_batch.h"

namespace apar {

struct BatchLimits {
  int32_t vocab_size = 0;
  int32_t num_blocks = 0;
  int32_t max_rows = 0;
  int32_t max_context = 0;  // tokens of one path
};

// Throws Error{internal} for a batch that would make a kernel read or write out of bounds: the code that
// built it has a bug. Reads every row, path entry and block once, which is cheap compared with the step.
void check_batch(const StepBatch& batch, size_t num_logits, const BatchLimits& limits);

}  // namespace apar
