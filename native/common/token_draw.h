#pragma once

#include <cstdint>

namespace apar {

// How a device samples the next token from one row of logits; same rules as core/sampler.h. A masked token is
// treated as if its logit were -inf.
struct TokenDraw {
  float temperature = 0;  // 0 is greedy
  float top_p = 1;
  float min_p = 0;
  int32_t top_k = 0;
  double uniform = 0;   // random number in [0, 1): selects a candidate by cumulative weight
  int32_t masked = -1;  // a masked token; -1 for none
  // A token that the host masks or not depending on the rows before this one, so the device samples for both
  // cases; -1 for none.
  int32_t maybe_masked = -1;
};

// A token of -1 means that no logit is finite or one is NaN.
struct DrawnToken {
  int32_t token = -1;  // sampled with `maybe_masked` allowed
  float logit = 0;
  int32_t token_if_masked = -1;  // sampled with `maybe_masked` masked
  float logit_if_masked = 0;
  float maybe_masked_logit = 0;
};

}  // namespace apar
