#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace apar {

// How long steps take by their number of rows, measured while the engine runs. Errors make rows look too
// cheap rather than too dear, so that they are used and measured: a larger step that took less time bounds
// smaller ones, and a row of a size that was never measured costs as much as at the sizes below it.
class StepCost {
 public:
  void measured(int32_t rows, double seconds);
  // Of a step of `rows` rows; 0 if no step was ever measured.
  double seconds(int32_t rows) const;
  // Whether a step of about as many rows was measured among the last kFresh steps.
  bool is_fresh(int32_t rows) const;
  // Rows of the largest step measured.
  double largest() const { return curve_.empty() ? 0 : curve_.back().rows; }

  static constexpr int64_t kFresh = 256;
  // A size that was not measured for as many steps is forgotten. Else the first steps of a size, which can
  // take longer than later ones (a device records their graphs), would make it look too dear for ever.
  static constexpr int64_t kRemembered = 4096;

 private:
  // Steps of similar sizes, four bins for each power of two, have a bin in common.
  struct Bin {
    double rows = 0, rate = 0;  // means; rate = 1 / seconds
    int32_t samples = 0;
    int64_t measured_at = 0;
  };
  static constexpr int kBins = 80;
  struct Point {
    double rows, seconds;
  };
  // Of the mean cost of a row: the least that one costs at a size that was never measured.
  static constexpr double kPrior = 0.1;

  static size_t bin_of(int32_t rows);

  std::array<Bin, kBins> bins_{};
  std::vector<Point> curve_;  // of the bins measured, ascending in both
  int64_t steps_ = 0;
};

}  // namespace apar
