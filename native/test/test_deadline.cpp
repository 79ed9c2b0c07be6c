// The policy `deadline`, on a model whose steps take a time that is known, by its own clock.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <random>
#include <tuple>
#include <utility>
#include <vector>

#include "common/error.h"
#include "core/decoder.h"
#include "timed_model.h"

using namespace apar;

namespace {

constexpr int32_t kVocab = 12, kFork = 9, kChild = 10, kEos = 11;
const ControlTokens kTokens{kFork, kChild, {kEos}};

// An answer with `items` details.
std::vector<ForcedBranch> list_of(int32_t items, int32_t detail, int32_t between = 6) {
  std::vector<ForcedBranch> answer(1);
  for (int32_t item = 0; item < items; ++item) {
    answer[0].tokens.insert(answer[0].tokens.end(), static_cast<size_t>(between), 1);
    answer[0].tokens.push_back(kFork);
    answer.push_back({0, {kChild}});
    answer.back().tokens.insert(answer.back().tokens.end(), static_cast<size_t>(detail), 2);
  }
  answer[0].tokens.insert(answer[0].tokens.end(), static_cast<size_t>(between), 3);
  return answer;
}

RequestParams request(int32_t id, std::vector<ForcedBranch> answer) {
  RequestParams params;
  params.id = id;
  params.prompt = {id % 9, id / 9 % 9, id / 81 % 9, 1, 2, 3, 4, 5};
  params.max_tokens = 3000;
  params.max_branches = 32;
  params.max_depth = 2;
  params.forced = std::move(answer);
  return params;
}

struct Arrival {
  double at;
  RequestParams params;
};

struct Outcome {
  double arrived = 0, first = -1, end = 0;
  int32_t tokens = 0;  // of the text
  double per_token() const { return (end - first) / std::max(1, tokens - 1); }
};

struct Settings {
  PolicyKind policy = PolicyKind::deadline;
  double token_seconds = 0.02, first_token_seconds = 0;
  std::function<double(int32_t)> seconds;  // of a step, by rows
  int32_t branches = 64;
};

struct Served {
  std::vector<Event> events;
  std::map<int32_t, Outcome> outcomes;
  DecoderStats stats;
  int32_t most_live = 0;

  int32_t good(double first_seconds, double token_seconds) const {
    return static_cast<int32_t>(std::count_if(outcomes.begin(), outcomes.end(), [&](const auto& each) {
      const Outcome& outcome = each.second;
      return outcome.first - outcome.arrived <= first_seconds && outcome.per_token() <= token_seconds;
    }));
  }
};

Served serve(const Settings& settings, const std::vector<Arrival>& arrivals) {
  TimedModel model(kVocab, 4096, 8192, 512);
  model.seconds = settings.seconds;
  DecoderConfig config;
  config.tokens = kTokens;
  config.max_step_tokens = 512;
  config.max_branches = settings.branches;
  config.policy = settings.policy;
  config.deadlines = {settings.token_seconds, settings.first_token_seconds};
  config.speculation = Speculation::off;
  config.clock = model.clock();
  Decoder decoder(model, config);
  Served served;
  size_t submitted = 0;
  std::vector<Event> events;
  while (submitted < arrivals.size() || !decoder.idle()) {
    if (decoder.idle()) model.now = std::max(model.now, arrivals[submitted].at);
    for (; submitted < arrivals.size() && arrivals[submitted].at <= model.now; ++submitted) {
      served.outcomes[arrivals[submitted].params.id].arrived = arrivals[submitted].at;
      decoder.submit(arrivals[submitted].params);
    }
    events.clear();
    decoder.step(events);
    served.most_live = std::max(served.most_live, decoder.stats().live_branches);
    for (const Event& event : events) {
      Outcome& outcome = served.outcomes[event.request];
      if (event.kind == EventKind::token && event.a < kFork) {
        if (outcome.first < 0) outcome.first = model.now;
        ++outcome.tokens;
      }
      if (event.kind == EventKind::finish) outcome.end = model.now;
      served.events.push_back(event);
    }
  }
  served.stats = decoder.stats();
  return served;
}

// A Poisson process of lists, and of a share of answers that do not fork.
std::vector<Arrival> load(double rate, int32_t requests, uint32_t seed, double serial = 0) {
  std::mt19937 random(seed);
  std::vector<Arrival> arrivals;
  double at = 0;
  for (int32_t i = 1; i <= requests; ++i) {
    at += -std::log((static_cast<double>(random()) + 1) / 4294967296.0) / rate;
    const bool forks = random() >= serial * 4294967296.0;
    const auto items = forks ? 1 + static_cast<int32_t>(random() % 9) : 0;
    const auto detail = 20 + static_cast<int32_t>(random() % 60);
    arrivals.push_back({at, request(i, list_of(items, detail, forks ? 20 : 200))});
  }
  return arrivals;
}

bool same(const Event& one, const Event& other) {
  return std::tie(one.kind, one.request, one.branch, one.a, one.b) ==
         std::tie(other.kind, other.request, other.branch, other.a, other.b);
}

std::function<double(int32_t)> steps_of(double constant, double per_row) {
  return [=](int32_t rows) { return constant + per_row * rows; };
}

}  // namespace

TEST_CASE("with time to spare everything forks, as with the policy eager") {
  const auto arrivals = load(2, 30, 1);
  const auto seconds = steps_of(1e-3, 0.05e-3);
  const Served eager = serve({.policy = PolicyKind::eager, .seconds = seconds}, arrivals);
  const Served deadline = serve({.seconds = seconds}, arrivals);
  CHECK(deadline.stats.forks > 50);
  CHECK(deadline.stats.forks_refused == 0);
  REQUIRE(deadline.events.size() == eager.events.size());
  CHECK(std::equal(deadline.events.begin(), deadline.events.end(), eager.events.begin(), same));
}

TEST_CASE("a fork that would make another request late is refused, and goes on serially") {
  // Five rows in a step keep the deadline.
  const auto seconds = steps_of(10e-3, 2e-3);
  std::vector<Arrival> arrivals = {{0, request(1, list_of(0, 0, 200))}, {0, request(2, list_of(12, 60))}};
  const Served serial = serve({.policy = PolicyKind::serial, .seconds = seconds}, arrivals);
  const Served eager = serve({.policy = PolicyKind::eager, .seconds = seconds}, arrivals);
  const Served deadline = serve({.seconds = seconds}, arrivals);
  CHECK(serial.outcomes.at(1).per_token() <= 0.02);
  CHECK(eager.outcomes.at(1).per_token() > 0.02);
  CHECK(deadline.outcomes.at(1).per_token() <= 0.02);
  CHECK(deadline.stats.forks > 3);
  CHECK(deadline.stats.forks_refused > 1);
  CHECK(deadline.stats.forks + deadline.stats.forks_refused == eager.stats.forks);
  CHECK(deadline.outcomes.at(2).end < 0.7 * serial.outcomes.at(2).end);
  for (const int32_t id : {1, 2}) CHECK(deadline.outcomes.at(id).tokens == serial.outcomes.at(id).tokens);
}

TEST_CASE("a request alone, and requests that are late in any case, keep nothing from forking") {
  const auto seconds = steps_of(10e-3, 2e-3);
  const std::vector<Arrival> alone = {{0, request(1, list_of(12, 60))}};
  CHECK(serve({.seconds = seconds}, alone).stats.forks_refused == 0);
  const std::vector<Arrival> two = {{0, request(1, list_of(0, 0, 200))}, {0, request(2, list_of(12, 60))}};
  // Before the time of steps is known nothing is late, either.
  CHECK(serve({.token_seconds = 1e-3, .seconds = seconds}, two).stats.forks_refused == 0);
}

TEST_CASE("no child waits for a place") {
  const Settings settings{.seconds = steps_of(1e-4, 1e-6), .branches = 4};
  const Served deadline =
      serve(settings, {{0, request(1, list_of(12, 60))}, {0, request(2, list_of(12, 60))}});
  CHECK(deadline.most_live == 4);
  CHECK(deadline.stats.forks > 2);
  CHECK(deadline.stats.forks_refused > 2);
}

// Goodput: requests with their first token within half a second, and 20 ms for each token after it.
TEST_CASE(
    "around the saturation of serial decoding more requests are good than serially, or with all forks") {
  struct Case {
    const char* name;
    double per_row, serial;  // seconds; share of answers that do not fork
    double saturation;       // requests per second that serial decoding can serve
    double over_eager;
  };
  for (const Case& each : {Case{"by places in the batch", 0.2e-3, 0, 12, 1.5},
                           Case{"by the time of steps", 0.5e-3, 0.6, 5, 1}}) {
    CAPTURE(each.name);
    for (const double factor : {0.8, 1.2}) {
      CAPTURE(factor);
      const auto arrivals = load(factor * each.saturation, 200, 5, each.serial);
      const auto good = [&](PolicyKind policy) {
        return serve({.policy = policy, .seconds = steps_of(5e-3, each.per_row)}, arrivals).good(0.5, 0.02);
      };
      const int32_t serial = good(PolicyKind::serial), deadline = good(PolicyKind::deadline);
      const int32_t eager = good(PolicyKind::eager);
      CAPTURE(eager);
      CHECK(deadline >= serial);
      CHECK(deadline >= (factor > 1 ? each.over_eager : 1) * eager);
    }
  }
}

TEST_CASE(
    "under an overload those begin that can have their first token in time, and every fourth is another") {
  for (const int32_t tenants : {1, 3}) {
    CAPTURE(tenants);
    auto arrivals = load(24, 400, 6);
    for (Arrival& arrival : arrivals) arrival.params.tenant.id = arrival.params.id % tenants;
    Settings settings{.seconds = steps_of(5e-3, 0.2e-3), .branches = 32};
    const Served in_order = serve(settings, arrivals);
    settings.first_token_seconds = 0.45;
    const Served in_time = serve(settings, arrivals);
    const double no_limit = 1e9;
    CHECK(in_time.good(0.5, no_limit) >= 3 * in_order.good(0.5, no_limit));
    // Late ones begin while others do: not in one go at the end.
    int32_t late = 0;
    for (const auto& [id, outcome] : in_time.outcomes) {
      REQUIRE(outcome.first >= 0);
      late += outcome.first - outcome.arrived > 0.5 && outcome.first < arrivals.back().at ? 1 : 0;
    }
    CHECK(late > 10);
  }
}

TEST_CASE("late requests of a tenant begin although those of one with less priority wait longer") {
  auto arrivals = load(24, 400, 6);
  for (Arrival& arrival : arrivals) arrival.params.tenant = {arrival.params.id % 8 == 0 ? 0 : 1, 1, 0};
  for (Arrival& arrival : arrivals) arrival.params.tenant.priority = arrival.params.tenant.id;
  const Settings settings{.first_token_seconds = 0.45, .seconds = steps_of(5e-3, 0.2e-3), .branches = 32};
  const Served served = serve(settings, arrivals);
  int32_t late = 0;
  for (const auto& [id, outcome] : served.outcomes) {
    REQUIRE(outcome.first >= 0);
    late += id % 8 != 0 && outcome.first - outcome.arrived > 0.5 && outcome.first < arrivals.back().at;
  }
  CHECK(late > 10);
}

TEST_CASE("the policy needs a deadline") {
  CHECK_THROWS_AS(serve({.token_seconds = 0, .seconds = steps_of(1e-3, 0)}, {}), Error);
}
