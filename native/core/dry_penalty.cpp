#include "core/dry_penalty.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/error.h"

namespace apar {
namespace {

// More than any difference of logits, and finite.
constexpr float kMaxPenalty = 1e6f;

}  // namespace

void DryParams::validate() const {
  const auto require = [](bool good, const char* what) {
    if (!good) throw Error(ErrorCode::invalid_request, what);
  };
  require(multiplier >= 0.0f && std::isfinite(multiplier), "dry_multiplier must not be negative");
  require(base >= 1.0f && std::isfinite(base), "dry_base must be at least 1");
  require(allowed_length >= 1, "dry_allowed_length must be at least 1");
  require(penalty_last_n >= -1, "dry_penalty_last_n must be -1 or more");
}

void DryPenalty::apply(std::span<float> logits, const DryParams& params,
                       std::span<const std::span<const int32_t>> path) {
  const size_t most = params.penalty_last_n < 0 ? std::numeric_limits<size_t>::max()
                                                : static_cast<size_t>(params.penalty_last_n);
  recent_.clear();
  for (size_t part = path.size(); part-- > 0;)
    for (size_t i = path[part].size(); i-- > 0 && recent_.size() < most;) recent_.push_back(path[part][i]);
  const auto unbroken = std::ranges::find_if(recent_, [&](int32_t token) { return params.breaks(token); });
  const auto longest = static_cast<int32_t>(unbroken - recent_.begin());
  if (longest < params.allowed_length) return;
  find_matches();
  repeats_.clear();
  for (size_t i = 1; i < recent_.size(); ++i) {
    const int32_t length = std::min(matches_[i], longest), token = recent_[i - 1];
    if (length >= params.allowed_length && !params.breaks(token)) repeats_.push_back({token, length});
  }
  // The longest of each token first.
  std::ranges::sort(repeats_, [](const Repeat& a, const Repeat& b) {
    return a.token != b.token ? a.token < b.token : a.length > b.length;
  });
  int32_t before = -1;
  for (const auto [token, length] : repeats_) {
    if (token == before) continue;
    before = token;
    const float penalty =
        params.multiplier * std::pow(params.base, static_cast<float>(length - params.allowed_length));
    logits[static_cast<size_t>(token)] -= std::min(penalty, kMaxPenalty);
  }
}

// The Z algorithm: each comparison that succeeds moves the end of the known match, so the time is linear.
void DryPenalty::find_matches() {
  const auto size = static_cast<int32_t>(recent_.size());
  matches_.assign(recent_.size(), 0);
  const auto at = [this](int32_t i) { return recent_[static_cast<size_t>(i)]; };
  for (int32_t i = 1, begin = 0, end = 0; i < size; ++i) {
    int32_t length = i < end ? std::min(end - i, matches_[static_cast<size_t>(i - begin)]) : 0;
    while (i + length < size && at(length) == at(i + length)) ++length;
    matches_[static_cast<size_t>(i)] = length;
    if (i + length > end) {
      begin = i;
      end = i + length;
    }
  }
}

}  // namespace apar
