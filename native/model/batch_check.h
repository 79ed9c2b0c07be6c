#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "common/draft.h"
#include "common/step_batch.h"

namespace apar {

struct BatchLimits {
  int32_t vocab_size = 0;
  int32_t num_blocks = 0;
  int32_t max_rows = 0;
  int32_t max_logit_rows = 0;
  int32_t max_context = 0;  // tokens of one path
};

// Throws Error{internal} for a batch that would make a kernel read or write out of bounds: the code that
// built it has a bug. Reads every row, path entry and block once, which is cheap compared with the step.
void check_batch(const StepBatch& batch, size_t num_logits, const BatchLimits& limits);

struct DraftLimits {
  int32_t logit_rows = 0;  // of the last step
  int32_t heads = 0;
  int32_t vocab_size = 0;
};

// The same for the arguments of Model::draft() and Model::copy_slots().
void check_draft(std::span<const DraftRow> rows, int32_t top_k, size_t num_candidates,
                 const DraftLimits& limits);
void check_copies(std::span<const SlotCopy> copies, int32_t num_blocks);

}  // namespace apar
