#pragma once

#include <cstdint>

namespace apar {

// How a device draws one row's token from its logits; the rules are core/sampler.h's.
struct TokenDraw {
  float temperature = 0;  // 0 is greedy
  float top_p = 1;
  float min_p = 0;
  int32_t top_k = 0;
  double uniform = 0;      // in [0, 1): which of the candidates, by their cumulated weights
  int32_t never = -1;      // a banned token, -1 for none
  int32_t refusable = -1;  // a token that the rows before may get banned, so that two answers are wanted
};

// -1: no logit is finite, or one is NaN.
struct DrawnToken {
  int32_t token = -1;
  float logit = 0;
  int32_t without = -1;  // drawn with `refusable` banned, too
  float without_logit = 0;
  float refusable_logit = 0;
};

}  // namespace apar
