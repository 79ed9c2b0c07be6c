#include "core/row_bound.h"

#include <algorithm>
#include <cmath>

namespace apar {
namespace {

// Of the best throughput; the rest buys shorter steps.
constexpr double kEnough = 0.85;
// One trial has this many steps: the times of single steps vary.
constexpr int32_t kTrialSteps = 8;
// Between trials of fewer and of more rows. Trials of more make steps longer for all; trials of fewer are
// soon repeated, because a first one may fail by chance.
constexpr int32_t kFewerEvery = 8 * kTrialSteps;
constexpr int32_t kMoreEvery = 32 * kTrialSteps;
constexpr int32_t kMemory = 16;  // samples in the moving average of a rate

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
  if (steps_ % kTrialSteps == 0) choose();
  const int32_t step = steps_++ % kMoreEvery;
  const int base = size_ < 0 ? largest_measured() : size_;
  if (step % kFewerEvery < kTrialSteps && base > kSmallest) return std::min(max_rows_, 1 << (base - 1));
  if (step >= kMoreEvery - kTrialSteps && size_ >= 0) return std::min(max_rows_, 2 << size_);
  return rows();
}

void RowBound::measured(int32_t rows, double seconds) {
  if (rows < 1 || seconds <= 0) return;
  const auto size = static_cast<size_t>(std::min<long>(kSizes - 1, std::lround(std::log2(rows))));
  samples_[size] = std::min(kMemory, samples_[size] + 1);
  // The mean of rates, not of times: a step that the machine interrupted hardly counts.
  rate_[size] += (rows / seconds - rate_[size]) / samples_[size];
}

void RowBound::choose() {
  const int before = size_;
  const double best = *std::max_element(rate_.begin(), rate_.end());
  const int largest = largest_measured();
  size_ = -1;  // throughput still grows at the most rows that there are
  for (int size = kSmallest; size < largest; ++size) {
    const auto i = static_cast<size_t>(size);
    if (samples_[i] < kTrialSteps / 2 || rate_[i] < kEnough * best) continue;
    size_ = size;
    break;
  }
  // Fewer rows are enough: try still fewer at once.
  const bool fewer = size_ >= 0 && (before < 0 || size_ < before);
  if (fewer) steps_ = 0;
}

}  // namespace apar
