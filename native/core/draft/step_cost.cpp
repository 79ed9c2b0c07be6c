#include "core/draft/step_cost.h"

#include <algorithm>
#include <bit>

namespace apar {
namespace {

constexpr int32_t kMemory = 32;  // steps in the moving average of a bin

}  // namespace

// 1 to 7 rows have bins of their own; then there are four for each power of two.
size_t StepCost::bin_of(int32_t rows) {
  const auto n = static_cast<uint32_t>(rows);
  if (n < 8) return n;
  const auto log = static_cast<uint32_t>(std::bit_width(n)) - 1;
  const uint32_t quarter = (n >> (log - 2)) & 3;
  return std::min<size_t>(kBins - 1, 8 + (log - 3) * 4 + quarter);
}

void StepCost::measured(int32_t rows, double seconds) {
  if (rows < 1 || seconds <= 0) return;
  Bin& bin = bins_[bin_of(rows)];
  bin.samples = std::min(kMemory, bin.samples + 1);
  // The mean of rates, not of times: a step that the machine interrupted hardly counts.
  bin.rate += (1.0 / seconds - bin.rate) / bin.samples;
  bin.rows += (rows - bin.rows) / bin.samples;
  bin.measured_at = ++steps_;

  curve_.clear();
  for (Bin& each : bins_) {
    if (steps_ - each.measured_at >= kRemembered) each = {};
    if (each.samples > 0) curve_.push_back({each.rows, 1.0 / each.rate});
  }
  for (size_t i = curve_.size() - 1; i-- > 0;)
    curve_[i].seconds = std::min(curve_[i].seconds, curve_[i + 1].seconds);
}

bool StepCost::is_fresh(int32_t rows) const {
  const Bin& bin = bins_[bin_of(rows)];
  return bin.samples > 0 && steps_ - bin.measured_at < kFresh;
}

double StepCost::seconds(int32_t rows) const {
  const auto next = std::upper_bound(curve_.begin(), curve_.end(), static_cast<double>(rows),
                                     [](double value, const Point& point) { return value < point.rows; });
  if (next == curve_.begin()) return curve_.empty() ? 0 : next->seconds;
  const Point& below = next[-1];
  const double more = rows - below.rows;
  const auto along = [&](const Point& from, const Point& to) {
    return below.seconds + more * (to.seconds - from.seconds) / (to.rows - from.rows);
  };
  double guess = below.seconds + more * kPrior * below.seconds / below.rows;
  if (next - curve_.begin() >= 2) guess = std::max(guess, along(next[-2], below));
  if (next == curve_.end()) return guess;
  const double between = along(below, *next);
  return bins_[bin_of(rows)].samples > 0 ? between : std::min(guess, between);
}

}  // namespace apar
