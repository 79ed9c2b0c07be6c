#include <algorithm>
#include <cmath>
#include <random>

#include "core/row_bound.h"
#include "doctest/doctest.h"
#include "test/random_numbers.h"

using apar::RowBound;

namespace {

constexpr int32_t kRunning = 64;

// Steps of up to kRunning rows, whose times in ms come from `time`.
struct Run {
  RowBound bound{512};
  double steps = 0, short_steps = 0, rows = 0;

  void forget() { steps = short_steps = rows = 0; }

  template <class Time>
  void go(int32_t count, Time time) {
    for (int32_t i = 0; i < count; ++i) {
      const int32_t now = std::min(kRunning, bound.next());
      bound.measured(now, time(now) / 1000);
      ++steps;
      short_steps += now <= 16;
      rows += now;
    }
  }
};

}  // namespace

// As on two CPU cores that edge and clients use, too: times vary by a third, and some steps are interrupted.
TEST_CASE("on a busy CPU steps become short, and stay so") {
  std::mt19937 random(3);
  const auto time = [&](int32_t rows) {
    const double quiet = (0.144 + 0.076 * rows) * std::exp(0.3 * apar::test::random_float(random));
    return apar::test::random_float(random) > 1 - 0.16 * quiet ? quiet + 3 : quiet;
  };
  Run run;
  run.go(1000, time);
  run.forget();
  run.go(5000, time);
  CHECK(run.short_steps / run.steps > 0.9);
}

TEST_CASE("where more rows cost nothing, trials cost less than a hundredth") {
  const auto time = [](int32_t) { return 5.0; };
  Run run;
  run.go(5000, time);
  run.forget();
  run.go(5000, time);
  CHECK(run.rows / run.steps > 0.99 * kRunning);
}
