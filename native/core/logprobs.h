#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace apar {

struct Logprob {
  int32_t token;
  float logprob;
};

// Natural logarithms of the model's own probabilities: without logit mask, bias, penalties and temperature.
class Logprobs {
 public:
  // Copies one row of logits [vocab]; of() and top() refer to it.
  void set_logits(std::span<const float> logits);
  float of(int32_t token) const;
  // The `count` most likely tokens, most likely first; tokens of equal probability in order of their ids.
  std::span<const Logprob> top(int32_t count);

 private:
  std::vector<float> logits_;
  float log_sum_ = 0;
  std::vector<Logprob> ranked_;
};

}  // namespace apar
