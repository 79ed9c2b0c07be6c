// How many candidates a step has: by their measured acceptance, and by what rows cost.
#include <doctest/doctest.h>

#include <functional>
#include <random>

#include "core/draft/acceptance.h"
#include "core/draft/draft_policy.h"

using namespace apar;

namespace {

// Steps whose candidates all have the same probability, and in fact that of `really`.
struct Simulation {
  std::function<double(int32_t)> seconds;  // of a step, by rows
  DraftPolicy policy = {};
  int32_t last = 0;  // candidates of the last step
  int64_t candidates = 0;
  double spent = 0, undrafted = 0;  // seconds, and what they would have been without candidates

  void step(int32_t branches, float probability) {
    const std::vector<float> all(static_cast<size_t>(16 * branches), probability);
    last = policy.choose(branches, branches, all, 16 * branches);
    candidates += last;
    policy.step_measured(branches + last, seconds(branches + last));
    spent += seconds(branches + last);
    undrafted += seconds(branches);
  }
};

}  // namespace

TEST_CASE("the cost of steps is that of measured ones, and sizes in between and beyond look cheap") {
  StepCost cost;
  CHECK(cost.seconds(4) == 0);
  CHECK_FALSE(cost.is_fresh(4));
  cost.measured(4, 1.0);
  cost.measured(8, 3.0);
  CHECK(cost.is_fresh(4));
  CHECK_FALSE(cost.is_fresh(5));
  CHECK(cost.seconds(2) == doctest::Approx(1.0));
  CHECK(cost.seconds(4) == doctest::Approx(1.0));
  CHECK(cost.seconds(6) == doctest::Approx(1.05));
  CHECK(cost.seconds(8) == doctest::Approx(3.0));
  CHECK(cost.seconds(16) == doctest::Approx(7.0));
  // 8 and 9 rows are one bin.
  cost.measured(12, 5.0);
  CHECK(cost.seconds(9) == doctest::Approx(3.5));
  // A larger step that takes less time shows that the smaller one was measured at a bad moment.
  for (int i = 0; i < 50; ++i) cost.measured(16, 2.0);
  CHECK(cost.seconds(8) <= 2.0);
  for (int i = 0; i < 300; ++i) cost.measured(16, 2.0);
  CHECK_FALSE(cost.is_fresh(4));
}

TEST_CASE("an interrupted step hardly changes the cost") {
  StepCost cost;
  for (int i = 0; i < 40; ++i) cost.measured(3, 1.0);
  cost.measured(3, 100.0);
  CHECK(cost.seconds(3) < 1.04);
}

TEST_CASE("a size that was slow at first is measured again some time") {
  StepCost cost;
  cost.measured(4, 1.0);
  cost.measured(32, 50.0);
  for (int64_t i = 0; i < StepCost::kRemembered - 1; ++i) cost.measured(4, 1.0);
  CHECK(cost.seconds(32) == doctest::Approx(50.0));
  cost.measured(4, 1.0);
  CHECK(cost.seconds(32) < 2.0);
  CHECK(cost.largest() == 4);
}

TEST_CASE("where rows cost nothing all candidates are taken, but for steps that measure") {
  Simulation simulation{[](int32_t) { return 1.0; }};
  for (int i = 0; i < 1000; ++i) simulation.step(4, 0.5f);
  CHECK(simulation.candidates > 64 * 980);
  CHECK(simulation.candidates < 64 * 1000);
}

TEST_CASE("the number of candidates stays below where a step begins to cost more") {
  Simulation simulation{[](int32_t rows) { return rows <= 16 ? 1.0 : rows / 16.0; }};
  for (int i = 0; i < 300; ++i) simulation.step(4, 0.3f);
  const int64_t before = simulation.candidates;
  for (int i = 0; i < 100; ++i) simulation.step(4, 0.3f);
  const double mean = static_cast<double>(simulation.candidates - before) / 100;
  CHECK(mean >= 10);
  CHECK(mean <= 20);
}

TEST_CASE("without gain there are few candidates, and steps take at most 2 % longer") {
  Simulation simulation{[](int32_t rows) { return 0.2 + 0.1 * rows; }};
  for (int i = 0; i < 500; ++i) simulation.step(8, 0.05f);
  simulation.spent = simulation.undrafted = 0;
  for (int i = 0; i < 5000; ++i) simulation.step(8, 0.05f);
  CHECK(simulation.spent < 1.02 * simulation.undrafted);
  CHECK(simulation.candidates > 0);
}

TEST_CASE("candidates that begin to pay are taken at once") {
  Simulation simulation{[](int32_t rows) { return 0.9 + 0.1 * rows; }};
  for (int i = 0; i < 2000; ++i) simulation.step(4, 0.02f);
  CHECK(simulation.last == 0);
  int steps = 0;
  while (steps < 3 && simulation.last == 0) simulation.step(4, 0.95f), ++steps;
  CHECK(simulation.last > 0);
}

TEST_CASE("with more branches, whose rows fill the step, there are no candidates") {
  Simulation simulation{[](int32_t rows) { return rows <= 32 ? 1.0 : rows / 32.0; }};
  for (int i = 0; i < 400; ++i) simulation.step(2, 0.5f);
  CHECK(simulation.last >= 20);
  const int64_t before = simulation.candidates;
  for (int i = 0; i < 400; ++i) simulation.step(64, 0.5f);
  CHECK(simulation.candidates - before < 2000);
  for (int i = 0; i < 4; ++i) simulation.step(2, 0.5f);
  CHECK(simulation.last >= 20);
}

TEST_CASE("heads run while they pay, and now and then to find out") {
  DraftPolicy policy = {};
  CHECK(policy.heads_pay(4, 64));
  CHECK_FALSE(policy.heads_pay(0, 64));
  CHECK_FALSE(policy.heads_pay(4, 0));
  const std::vector<float> good(16, 0.8f), bad(16, 0.01f);
  policy.step_measured(4, 1.0);
  policy.step_measured(20, 1.2);
  policy.heads_measured(4, 0.1);
  policy.choose(4, 4, good, 16);
  CHECK(policy.heads_pay(4, 64));
  for (int i = 0; i < 200; ++i) policy.choose(4, 4, bad, 16);
  int runs = 0;
  for (int i = 0; i < 1000; ++i) runs += policy.heads_pay(4, 64) ? 1 : 0;
  CHECK(runs >= 2);
  CHECK(runs <= 10);
  for (int i = 0; i < 200; ++i) policy.choose(4, 4, good, 16);
  CHECK(policy.heads_pay(4, 64));
  // Heads whose candidates are not even worth a try.
  for (int i = 0; i < 200; ++i) policy.choose(4, 4, {}, 16);
  runs = 0;
  for (int i = 0; i < 1000; ++i) runs += policy.heads_pay(4, 64) ? 1 : 0;
  CHECK(runs >= 2);
  CHECK(runs <= 10);
}

TEST_CASE("estimates follow what was accepted, of a source and of a branch, and recover") {
  AcceptanceRates rates;
  BranchAcceptance good, bad;
  const Candidate candidate{1, -1, 0, 3, 0.5f};
  CHECK(rates.of(candidate, good) == doctest::Approx(0.5));
  std::mt19937 random(1);
  for (int i = 0; i < 400; ++i) {
    rates.record(candidate, good, random() % 10 < 9);
    rates.record(candidate, bad, random() % 10 < 1);
  }
  CHECK(rates.of(candidate, good) > 0.75);
  CHECK(rates.of(candidate, bad) < 0.25);
  const Candidate other{1, -1, 0, 4, 0.5f};
  CHECK(rates.of(other, BranchAcceptance{}) == doctest::Approx(0.5));
  for (int i = 0; i < 300; ++i) bad.fade();
  CHECK(rates.of(candidate, bad) > 0.4);

  const Candidate unlikely{1, -1, 0, 5, 0.1f};
  BranchAcceptance any;
  for (int i = 0; i < 400; ++i) rates.record(unlikely, any, false);
  CHECK(rates.of(unlikely, BranchAcceptance{}) < 0.005);
  for (int i = 0; i < 40000; ++i) rates.fade();
  CHECK(rates.of(unlikely, BranchAcceptance{}) > 0.05);
}
