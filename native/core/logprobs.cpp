#include "core/logprobs.h"

#include <algorithm>
#include <cmath>

namespace apar {

void Logprobs::set_logits(std::span<const float> logits) {
  logits_.assign(logits.begin(), logits.end());
  const float max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit - max));
  log_sum_ = max + static_cast<float>(std::log(sum));
}

float Logprobs::of(int32_t token) const {
  return logits_[static_cast<size_t>(token)] - log_sum_;
}

std::span<const Logprob> Logprobs::top(int32_t count) {
  ranked_.clear();
  for (size_t i = 0; i < logits_.size(); ++i)
    ranked_.push_back({static_cast<int32_t>(i), logits_[i] - log_sum_});
  const auto kept = std::min(static_cast<size_t>(count), ranked_.size());
  const auto more_likely = [](const Logprob& a, const Logprob& b) {
    return a.logprob != b.logprob ? a.logprob > b.logprob : a.token < b.token;
  };
  std::partial_sort(ranked_.begin(), ranked_.begin() + static_cast<ptrdiff_t>(kept), ranked_.end(),
                    more_likely);
  return std::span(ranked_).first(kept);
}

}  // namespace apar
