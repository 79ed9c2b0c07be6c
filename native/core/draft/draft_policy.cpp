#include "core/draft/draft_policy.h"

#include <algorithm>

namespace apar {
namespace {

// A gain below this is within the errors of the estimates.
constexpr double kLeastGain = 1.03;
constexpr double kGainWeight = 0.1;  // of the newest step in the moving average
// Steps of unknown cost grow step by step: to twice the rows of any before, or to as many candidates.
constexpr int32_t kFirstCandidates = 15;
constexpr int32_t kTrialCandidates = 4;  // of each branch in a trial

}  // namespace

bool DraftPolicy::Trial::due() {
  if (++waited_ < interval_) return false;
  waited_ = 0;
  interval_ = std::min(2 * interval_, kLongest);
  return true;
}

int32_t DraftPolicy::choose(int32_t rows, int32_t branches, std::span<const float> probabilities,
                            int32_t most) {
  if (branches < 1) return 0;
  remember(branches, probabilities);
  const auto known = static_cast<int32_t>(2 * steps_.largest()) - rows;
  const auto count =
      std::min({most, static_cast<int32_t>(probabilities.size()), std::max(kFirstCandidates, known)});
  // What a step costs without candidates has to be known.
  if (count < 1 || !steps_.is_fresh(rows)) return 0;
  double tokens = branches, best_rate = kLeastGain * tokens / steps_.seconds(rows);
  int32_t best = 0;
  for (int32_t candidates = 1; candidates <= count; ++candidates) {
    tokens += probabilities[static_cast<size_t>(candidates - 1)];
    const double rate = tokens / steps_.seconds(rows + candidates);
    if (rate > best_rate) best_rate = rate, best = candidates;
  }
  if (best > 0) {
    candidates_trial_.pays();
    return best;
  }
  return candidates_trial_.due() ? std::min(count, kTrialCandidates * branches) : 0;
}

void DraftPolicy::remember(int32_t branches, std::span<const float> probabilities) {
  double tokens = 0;
  size_t next = 0;
  for (int size = 0; size < kSizes; ++size) {
    const size_t end = std::min(probabilities.size(), static_cast<size_t>(branches) << size);
    for (; next < end; ++next) tokens += probabilities[next];
    double& gain = gains_[static_cast<size_t>(size)];
    gain += (tokens / branches - gain) * (knows_gains_ ? kGainWeight : 1.0);
  }
  knows_gains_ = true;
}

bool DraftPolicy::heads_pay(int32_t branches, int32_t most) {
  if (branches < 1 || most < 1) return false;
  const double base = steps_.seconds(branches), heads = heads_.seconds(branches);
  if (!knows_gains_ || base == 0 || heads == 0) return true;
  for (int size = 0; size < kSizes; ++size) {
    const int32_t candidates = std::min(most, branches << size);
    const double gain = 1 + gains_[static_cast<size_t>(size)];
    if (gain / (steps_.seconds(branches + candidates) + heads) <= kLeastGain / base) continue;
    heads_trial_.pays();
    return true;
  }
  return heads_trial_.due();
}

}  // namespace apar
