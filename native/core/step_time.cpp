#include "core/step_time.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <optional>
#include <utility>

namespace apar {
namespace {

constexpr size_t kMost = 4;
using Matrix = std::array<std::array<double, kMost>, kMost>;
using Column = std::array<double, kMost>;

// Of the error of a smaller subset of the parts: one that is not below does not fit better, but noise.
constexpr double kBetter = 0.98;
constexpr double kSingular = 1e-9;

// Solves a x = b for the first `size` rows and columns; nullopt if a is singular.
std::optional<Column> solve(Matrix a, Column b, size_t size) {
  for (size_t i = 0; i < size; ++i) {
    size_t pivot = i;
    for (size_t row = i + 1; row < size; ++row)
      if (std::abs(a[row][i]) > std::abs(a[pivot][i])) pivot = row;
    std::swap(a[i], a[pivot]);
    std::swap(b[i], b[pivot]);
    if (std::abs(a[i][i]) < kSingular) return std::nullopt;
    for (size_t row = i + 1; row < size; ++row) {
      const double factor = a[row][i] / a[i][i];
      for (size_t column = i; column < size; ++column) a[row][column] -= factor * a[i][column];
      b[row] -= factor * b[i];
    }
  }
  for (size_t i = size; i-- > 0;) {
    for (size_t column = i + 1; column < size; ++column) b[i] -= a[i][column] * b[column];
    b[i] /= a[i][i];
  }
  return b;
}

}  // namespace

StepWork work_of(const StepBatch& batch, int32_t samples) {
  StepWork work;
  work.decode_rows = samples;
  work.other_rows = batch.rows() - samples;
  for (const SequenceRows& sequence : batch.sequences)
    work.attended += static_cast<double>(attended_tokens(sequence));
  return work;
}

StepTime::Vector StepTime::parts_of(const StepWork& work) {
  return {1, work.decode_rows, work.other_rows, work.attended};
}

void StepTime::measured(const StepWork& work, double seconds) {
  if (seconds <= 0) return;
  ++steps_;
  const double newest = std::max(1.0 / kMemory, 1.0 / steps_);
  other_rows_ += (work.other_rows - other_rows_) * newest;
  const Vector parts = parts_of(work);
  for (size_t i = 0; i < kParts; ++i) {
    const double y = parts[i] / seconds;
    sums_[i] += (y - sums_[i]) * newest;
    for (size_t j = 0; j < kParts; ++j)
      products_[i][j] += (y * parts[j] / seconds - products_[i][j]) * newest;
  }
  fit();
}

// Non-negative least squares: of all subsets of the parts, the one that fits best without a negative cost.
// There are 15, the smaller ones first, the constant before the others.
void StepTime::fit() {
  // Parts are of very different sizes: in units of their own mean the numbers are near 1.
  Vector unit{};
  for (size_t i = 0; i < kParts; ++i) unit[i] = products_[i][i] > 0 ? 1 / std::sqrt(products_[i][i]) : 0;
  double least_error = 1;  // of a model in which nothing costs anything
  costs_ = {};
  for (int size = 1; size <= static_cast<int>(kParts); ++size) {
    for (uint32_t subset = 1; subset < (1u << kParts); ++subset) {
      if (std::popcount(subset) != size) continue;
      std::array<size_t, kParts> members{};
      size_t count = 0;
      for (size_t i = 0; i < kParts; ++i)
        if ((subset >> i & 1) != 0) members[count++] = i;
      Matrix a{};
      Column b{};
      for (size_t i = 0; i < count; ++i) {
        b[i] = sums_[members[i]] * unit[members[i]];
        for (size_t j = 0; j < count; ++j)
          a[i][j] = products_[members[i]][members[j]] * unit[members[i]] * unit[members[j]];
      }
      const auto costs = solve(a, b, count);
      if (!costs) continue;
      double error = 1;  // the mean of (1 - y costs)^2 at its least: 1 - b costs
      bool good = true;
      for (size_t i = 0; i < count; ++i) {
        error -= b[i] * (*costs)[i];
        good = good && (*costs)[i] >= 0;
      }
      if (!good || error >= kBetter * least_error) continue;
      least_error = error;
      costs_ = {};
      for (size_t i = 0; i < count; ++i) costs_[members[i]] = (*costs)[i] * unit[members[i]];
    }
  }
}

double StepTime::seconds(const StepWork& work) const {
  if (steps_ < kFewest) return 0;
  const Vector parts = parts_of(work);
  double seconds = 0;
  for (size_t i = 0; i < kParts; ++i) seconds += parts[i] * costs_[i];
  return seconds;
}

}  // namespace apar
