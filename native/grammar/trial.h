#pragma once

#include <cstdint>
#include <vector>

#include "core/grammar.h"

namespace apar {

// Throws Error{invalid_request} when the masks of some random answers take so long that other requests would
// wait for them: repetitions of a pattern can make a state for each of their characters. `ends` are the
// tokens that end an answer.
void try_masks(const Grammar& grammar, int32_t vocab_size, const std::vector<int32_t>& ends);

}  // namespace apar
