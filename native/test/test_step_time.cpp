// The fitted model of step times.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <random>

#include "core/step_time.h"
#include "random_numbers.h"

using namespace apar;

namespace {

using Costs = std::function<double(const StepWork&)>;

double linear(const StepWork& work) {
  return 4e-3 + 0.2e-3 * work.decode_rows + 0.05e-3 * work.other_rows + 1e-7 * work.attended;
}

// Steps as a server has them: most only decode.
void run(StepTime& time, std::mt19937& random, int32_t steps, const Costs& seconds) {
  for (int32_t i = 0; i < steps; ++i) {
    StepWork work;
    work.decode_rows = 1 + static_cast<double>(random() % 64);
    work.other_rows = random() % 4 == 0 ? static_cast<double>(random() % 256) : 0;
    work.attended = (work.decode_rows + work.other_rows) * (100 + static_cast<double>(random() % 1000));
    time.measured(work, seconds(work));
  }
}

constexpr StepWork kSmall{3, 0, 2'000}, kLarge{60, 100, 90'000};

}  // namespace

TEST_CASE("a linear step time is found, and steps that were interrupted hardly count") {
  for (const bool interrupted : {false, true}) {
    CAPTURE(interrupted);
    std::mt19937 random(1), pauses(2);
    StepTime time;
    run(time, random, 2000, [&](const StepWork& work) {
      const double noise = interrupted ? std::exp(0.1 * test::random_float(pauses)) : 1;
      return linear(work) * noise * (interrupted && pauses() % 20 == 0 ? 30 : 1);
    });
    const double error = interrupted ? 0.15 : 1e-6;
    for (const StepWork& work : {kSmall, kLarge})
      CHECK(time.seconds(work) == doctest::Approx(linear(work)).epsilon(error));
    CHECK(time.other_rows() == doctest::Approx(127.5 / 4).epsilon(0.3));
  }
}

TEST_CASE("what was measured too seldom costs nothing, and what does not vary costs the same") {
  StepTime time;
  for (int32_t i = 0; i < StepTime::kFewest; ++i) {
    CHECK(time.seconds(kSmall) == 0);
    time.measured({8, 0, 800}, 0.01);
  }
  CHECK(time.seconds({8, 0, 800}) == doctest::Approx(0.01));
  CHECK(time.seconds({16, 0, 1600}) == doctest::Approx(0.01));
}

TEST_CASE("other times than before are learned") {
  std::mt19937 random(3);
  StepTime time;
  run(time, random, 1000, linear);
  run(time, random, 4 * StepTime::kMemory, [](const StepWork& work) { return 2 * linear(work); });
  CHECK(time.seconds(kLarge) == doctest::Approx(2 * linear(kLarge)).epsilon(0.05));
}

TEST_CASE("no work has a negative cost") {
  std::mt19937 random(4);
  StepTime time;
  run(time, random, 1000, [](const StepWork& work) { return 0.02 - 1e-4 * work.decode_rows; });
  double before = 0;
  for (double rows = 0; rows < 1000; rows += 10) {
    const double seconds = time.seconds({rows, 0, rows * 100});
    CHECK(seconds > 0);
    CHECK(seconds >= before);
    before = seconds;
  }
}
