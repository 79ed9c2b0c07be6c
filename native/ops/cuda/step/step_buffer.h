#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/cuda/step/attention_work.h"
#include "ops/cuda/step/step_data.h"

namespace apar::cuda {

// Writes a step's header and then its arrays into `words`, which grows when needed. One copy uploads all of
// it.
void write_step(const StepBatch& batch, const AttentionWork& work, std::vector<int32_t>& words);

}  // namespace apar::cuda
