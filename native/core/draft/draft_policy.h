#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "core/draft/step_cost.h"

namespace apar {

// Decides how many candidates a step verifies (docs/adr/0047): as many as give most tokens per second, by
// their estimated probabilities and the measured times of steps; none where that gains too little. Then a
// few are tried now and then, because the estimates would otherwise stay as they are. Decides when something
// is computed, never what.
class DraftPolicy {
 public:
  // Of a step with `rows` rows without candidates, of which `branches` give a token each. `probabilities`:
  // that each candidate is accepted, largest first; none if a source proposed nothing that could be worth a
  // row. Returns how many of them to take, at most `most`.
  int32_t choose(int32_t rows, int32_t branches, std::span<const float> probabilities, int32_t most);
  // Whether to let the heads predict candidates of `branches` branches, for a step of about as many rows.
  bool heads_pay(int32_t branches, int32_t most);

  void step_measured(int32_t rows, double seconds) { steps_.measured(rows, seconds); }
  void heads_measured(int32_t branches, double seconds) { heads_.measured(branches, seconds); }

 private:
  // Lets something that does not pay be tried in one of `interval_` steps, and less and less often.
  class Trial {
   public:
    bool due();
    void pays() { interval_ = kShortest; }

   private:
    static constexpr int32_t kShortest = 32, kLongest = 512;
    int32_t interval_ = kShortest;
    int32_t waited_ = 0;
  };

  static constexpr int kSizes = 6;

  void remember(int32_t branches, std::span<const float> probabilities);

  StepCost steps_, heads_;
  Trial candidates_trial_, heads_trial_;
  // [i]: mean of what 2^i candidates for each branch gained it in tokens, by their probabilities.
  std::array<double, kSizes> gains_{};
  bool knows_gains_ = false;
};

}  // namespace apar
