#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace apar {

struct Logprob {
  int32_t token;
  float logprob;
};

// Natural logarithms of the model's own probabilities, before bans, penalties and temperature.
class Logprobs {
 public:
  // Remembers a row [vocab].
  void keep(std::span<const float> logits);
  float of(int32_t token) const;
  // The `count` likeliest, likeliest first, smaller ids first among equals.
  std::span<const Logprob> top(int32_t count);

 private:
  std::vector<float> logits_;
  float log_sum_ = 0;
  std::vector<Logprob> ranked_;
};

}  // namespace apar
