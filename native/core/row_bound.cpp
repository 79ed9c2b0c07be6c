#include "core/row_bound.h"

#include <algorithm>
#include <cmath>

namespace apar {
namespace {

// Of the best throughput; the rest buys shorter steps.
constexpr double kEnough = 0.85;
// The number of rows in use stays down to this part: rates vary from trial to trial.
constexpr double kStillEnough = 0.75;
// A phase has this many steps: the times of single steps vary.
constexpr int32_t kPhaseSteps = 16;
// Between two trials, at most: where fewer rows never are enough, trials cost less than a hundredth.
constexpr int32_t kMostPhasesInUse = 64;
constexpr int32_t kMemory = 32;  // samples in the moving average of a rate

}  // namespace

int RowBound::largest_measured() const {
  int largest = kSizes - 1;
  while (largest >= 0 && samples_[static_cast<size_t>(largest)] == 0) --largest;
  return largest;
}

int32_t RowBound::rows() const {
  return size_ < 0 ? max_rows_ : std::min(max_rows_, 1 << size_);
}

int32_t RowBound::next() {
  if (steps_left_ == 0) next_phase();
  --steps_left_;
  const int base = size_ < 0 ? largest_measured() : size_;
  if (phase_ == Phase::try_fewer && base > kSmallest) return std::min(max_rows_, 1 << (base - 1));
  if (phase_ == Phase::try_more && size_ >= 0) return std::min(max_rows_, 2 << size_);
  return rows();
}

void RowBound::measured(int32_t rows, double seconds) {
  if (rows < 1 || seconds <= 0) return;
  const auto size = static_cast<size_t>(std::min<long>(kSizes - 1, std::lround(std::log2(rows))));
  samples_[size] = std::min(kMemory, samples_[size] + 1);
  // The mean of rates, not of times: a step that the machine interrupted hardly counts.
  rate_[size] += (rows / seconds - rate_[size]) / samples_[size];
}

// After a trial that has found fewer rows to be enough comes one of still fewer, at once. After one that has
// not, the next comes later and later.
void RowBound::next_phase() {
  const bool fewer = choose();
  steps_left_ = kPhaseSteps;
  if (fewer) {
    phase_ = Phase::try_fewer;
    phases_in_use_ = 1;
  } else if (phase_ == Phase::use) {
    phase_ = more_is_next_ && size_ >= 0 ? Phase::try_more : Phase::try_fewer;
    more_is_next_ = !more_is_next_;
  } else {
    if (phase_ == Phase::try_fewer) phases_in_use_ = std::min(kMostPhasesInUse, 2 * phases_in_use_);
    phase_ = Phase::use;
    steps_left_ *= phases_in_use_;
  }
}

// Returns whether fewer rows than before are in use now.
bool RowBound::choose() {
  const int before = size_;
  const double best = *std::max_element(rate_.begin(), rate_.end());
  const int largest = largest_measured();
  size_ = -1;  // throughput still grows at the most rows that there are
  for (int size = kSmallest; size < largest; ++size) {
    const auto i = static_cast<size_t>(size);
    const double enough = size == before ? kStillEnough : kEnough;
    if (samples_[i] < kPhaseSteps / 2 || rate_[i] < enough * best) continue;
    size_ = size;
    break;
  }
  return size_ >= 0 && (before < 0 || size_ < before);
}

}  // namespace apar
