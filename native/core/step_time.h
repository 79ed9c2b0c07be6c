#pragma once

#include <array>
#include <cstdint>

#include "common/step_batch.h"

namespace apar {

// What the time of a step depends on.
struct StepWork {
  double decode_rows = 0;  // of branches that get a token
  double other_rows = 0;   // of prompts and candidates
  double attended = 0;     // tokens, summed over the rows
};

// The work of a batch of which `samples` branches get a token.
StepWork work_of(const StepBatch& batch, int32_t samples);

// How long steps take: a constant and a share of each part of the work, none of them negative, fitted while
// the engine runs to about the last kMemory steps by least squares of the relative errors, so that a step
// that the machine interrupted hardly counts. What the steps do not tell apart is put into the constant: more
// work looks too cheap rather than too dear, is then tried, and measured.
class StepTime {
 public:
  void measured(const StepWork& work, double seconds);
  // Of a step with this work; 0 before kFewest steps were measured.
  double seconds(const StepWork& work) const;
  // Rows of prompts and candidates in a step, in the mean.
  double other_rows() const { return other_rows_; }

  static constexpr int32_t kMemory = 256;
  static constexpr int32_t kFewest = 8;

 private:
  static constexpr size_t kParts = 4;
  using Vector = std::array<double, kParts>;

  static Vector parts_of(const StepWork& work);
  void fit();

  // Sums over the steps, those of the past counting less and less; y = parts / seconds.
  std::array<Vector, kParts> products_{};  // of y and y
  Vector sums_{};                          // of y
  Vector costs_{};                         // seconds of each part
  double other_rows_ = 0;
  int32_t steps_ = 0;
};

}  // namespace apar
