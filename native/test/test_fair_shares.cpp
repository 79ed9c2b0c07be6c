// How steps are shared: among the prompts of one tenant, and among tenants.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>

#include "core/decoder.h"
#include "timed_model.h"

using namespace apar;

namespace {

constexpr int32_t kVocab = 12, kFork = 9, kChild = 10, kEos = 11;

struct Limits {
  int32_t blocks = 4096, step_tokens = 64, branches = 16, context = 4096;
  bool prefix_cache = true;
};

// Counts steps and each request's tokens.
struct Rig {
  explicit Rig(const Limits& limits)
      : model(kVocab, limits.context, limits.blocks, limits.step_tokens),
        decoder(model, config(limits, model)) {}

  static DecoderConfig config(const Limits& limits, TimedModel& model) {
    DecoderConfig config{{kFork, kChild, {kEos}}, limits.step_tokens, limits.branches, limits.prefix_cache};
    config.clock = model.clock();
    config.speculation = Speculation::off;  // rows are counted here
    return config;
  }

  // Never ends before `max_tokens`.
  void submit(int32_t id, TenantParams tenant, int32_t prompt, int32_t max_tokens) {
    RequestParams params;
    params.id = id;
    params.prompt.assign(static_cast<size_t>(prompt), id % 9);
    for (size_t i = 0; i < params.prompt.size(); i += 3)
      params.prompt[i] = static_cast<int32_t>((i + static_cast<size_t>(id) * 7) % 9);
    params.max_tokens = max_tokens;
    params.logit_bias = {{kEos, -1000.0f}};
    params.tenant = tenant;
    tenant_of[id] = tenant.id;
    decoder.submit(params);
  }
  void step() {
    REQUIRE(decoder.step(events));
    ++steps;
    for (const Event& event : events) {
      if (event.kind != EventKind::token) continue;
      ++tokens[tenant_of.at(event.request)];
      first_token.emplace(event.request, steps);
    }
    events.clear();
    decoder.check_integrity();
  }
  void run() {
    while (!decoder.idle()) step();
  }

  TimedModel model;
  Decoder decoder;
  std::vector<Event> events;
  std::map<int32_t, int32_t> tenant_of, tokens;  // tokens by tenant
  std::map<int32_t, int> first_token;            // by request: in which step
  int steps = 0;
};

}  // namespace

TEST_CASE("a short prompt does not wait for a long one that came before it") {
  Rig rig({.blocks = 2048, .step_tokens = 512, .branches = 64, .context = 20000});
  rig.submit(1, {}, 16000, 1);
  rig.step();
  rig.submit(2, {}, 20, 1);
  rig.step();
  CHECK(rig.first_token.at(2) == 2);
  rig.run();
  CHECK(rig.steps == (16020 + 511) / 512);  // no row of a step was wasted
}

TEST_CASE("short prompts do not starve a long one") {
  Rig rig({.step_tokens = 64, .branches = 16, .context = 8192});
  rig.submit(1, {}, 1600, 1);
  for (int32_t id = 2; rig.first_token.count(1) == 0; ++id) {
    rig.submit(id, {}, 60, 1);  // as many as the engine can compute
    rig.step();
    REQUIRE(rig.steps < 1000);
  }
  CHECK(rig.first_token.at(1) <= 1600 / (64 / 4) + 1);
}

TEST_CASE("tenants get tokens in proportion to their weights") {
  Rig rig({.step_tokens = 32, .branches = 16});
  rig.model.seconds = [](int32_t rows) { return rows * 0.001; };  // 8 rows a step are enough
  for (int32_t id = 1; id <= 64; ++id) rig.submit(id, {id % 2, id % 2 == 0 ? 1.0f : 3.0f}, 4, 400);
  for (int i = 0; i < 200; ++i) rig.step();
  rig.tokens.clear();
  for (int i = 0; i < 600; ++i) rig.step();
  CHECK(rig.decoder.stats().row_limit <= 16);
  const double ratio = static_cast<double>(rig.tokens.at(1)) / rig.tokens.at(0);
  CHECK(ratio > 2.9);
  CHECK(ratio < 3.1);
}

TEST_CASE("one stream beside 240 of another tenant is computed in every step") {
  Rig rig({.step_tokens = 512, .branches = 64});
  // Milliseconds measured on a CPU, of the demo model.
  const auto step_time = [](int32_t rows) { return std::max(0.22, 0.116 + 0.0755 * rows); };
  rig.model.seconds = step_time;
  for (int32_t id = 1; id <= 240; ++id) rig.submit(id, {1}, 30, 300);
  for (int i = 0; i < 100; ++i) rig.step();
  rig.submit(1000, {2}, 20, 1000);
  const int before = rig.steps;
  while (rig.first_token.count(1000) == 0) rig.step();
  CHECK(rig.first_token.at(1000) - before <= 4);
  for (int i = 0; i < 300; ++i) rig.step();
  const int32_t had = rig.tokens.at(2), others = rig.tokens.at(1);
  const double begun = rig.model.now;
  for (int i = 0; i < 600; ++i) rig.step();
  CHECK(rig.tokens.at(2) - had == 600);
  const double seconds = rig.model.now - begun;
  CHECK(seconds / 600 < 3.6 * step_time(1));
  const double best = 64 / step_time(64);
  CHECK((rig.tokens.at(1) - others + 600) / seconds > 0.85 * best);
}

TEST_CASE("where more rows cost nothing, tenants share full steps") {
  Rig rig({.step_tokens = 64, .branches = 32});
  for (int32_t id = 1; id <= 64; ++id) rig.submit(id, {id % 2}, 4, 400);
  int full = 0;
  for (int i = 0; i < 700; ++i) {
    rig.step();
    full += i >= 100 && rig.model.rows >= 32;
  }
  CHECK(full >= 500);  // the others try fewer rows
}

TEST_CASE("a tenant that wanted little saves nothing up for later") {
  Rig rig({.step_tokens = 16, .branches = 16});
  rig.model.seconds = [](int32_t rows) { return rows * 0.001; };
  for (int32_t id = 1; id <= 32; ++id) rig.submit(id, {1}, 4, 3000);
  rig.submit(100, {2}, 4, 400);
  while (rig.tokens[2] < 400) rig.step();
  for (int32_t id = 101; id <= 132; ++id) rig.submit(id, {2}, 4, 3000);
  for (int i = 0; i < 50; ++i) rig.step();
  const int32_t had = rig.tokens.at(1);
  rig.tokens[2] = 0;
  for (int i = 0; i < 200; ++i) rig.step();
  const double share = static_cast<double>(rig.tokens.at(1) - had) / rig.tokens.at(2);
  CHECK(share > 0.9);
  CHECK(share < 1.1);
}

TEST_CASE("a lower priority gets what the higher one leaves, but not nothing for ever") {
  Rig rig({.step_tokens = 16, .branches = 8});
  rig.model.seconds = [](int32_t rows) { return rows * 0.001; };
  for (int32_t id = 1; id <= 32; ++id) rig.submit(id, {1, 1, 1}, 4, 3000);
  rig.submit(100, {2, 1, 0}, 4, 20);
  int longest = 0, waited = 0;
  for (int i = 0; i < 3000; ++i) {
    const int32_t had = rig.tokens[2];
    rig.step();
    waited = rig.tokens[2] > had ? 0 : waited + 1;
    longest = std::max(longest, waited);
  }
  CHECK(rig.tokens[2] >= 8);
  CHECK(rig.tokens[2] <= 20);
  CHECK(longest <= Scheduler::kPatience + 4);
}

TEST_CASE("a tenant within its share of the blocks does not wait for one that holds them all") {
  // Eight requests of tenant 1 fill the pool.
  Rig rig({.blocks = 64, .step_tokens = 64, .branches = 32, .context = 900});
  for (int32_t id = 1; id <= 8; ++id) rig.submit(id, {1}, 110, 700);
  for (int i = 0; i < 30; ++i) rig.step();
  rig.submit(100, {2}, 200, 50);
  const int before = rig.steps;
  while (rig.first_token.count(100) == 0) rig.step();
  CHECK(rig.first_token.at(100) - before <= 40);  // 200 rows, 8 a step at the least
  CHECK(rig.decoder.stats().preemptions > 0);
  rig.run();
}

TEST_CASE("100,000 random arrivals: every tenant gets tokens in time, and no row is wasted") {
  constexpr int32_t kArrivals = 500;
  int64_t arrived = 0, finished = 0, preemptions = 0, full_checks = 0, drafted = 0;
  int64_t longest_wait = 0;
  for (uint32_t seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    const auto below = [&](int32_t end) {
      return static_cast<int32_t>(random() % static_cast<uint32_t>(end));
    };
    Limits limits;
    limits.branches = 1 + below(24);
    limits.step_tokens = limits.branches + below(64);
    limits.blocks = 14 + below(60);
    limits.context = 256;
    limits.prefix_cache = seed % 3 != 0;
    const int32_t tenants = 1 + below(12);
    const bool forks = seed % 3 == 1;
    const double per_row = below(3) * 0.01, fixed = 0.01;
    TimedModel model(kVocab, limits.context, limits.blocks, limits.step_tokens);
    model.seconds = [&](int32_t rows) { return fixed + per_row * rows; };
    DecoderConfig config = Rig::config(limits, model);
    const bool drafts = seed % 2 == 1;
    if (drafts) config.speculation = Speculation::automatic;
    Decoder decoder(model, config);

    int64_t last_preemptions = 0;
    DecoderStats planned;
    model.before = [&] { planned = decoder.stats(); };
    std::map<int32_t, int32_t> tenant_of, live;  // requests by tenant
    std::map<int32_t, int64_t> token_at;         // by tenant: its last token, or its first request
    std::vector<Event> events;
    int64_t step = 0;
    // An elder gets a quarter of a step at the least, and is preceded by those that waited longer.
    const int32_t quarter = std::max(1, std::min(limits.step_tokens, 8) / 4);
    const int64_t bound = Scheduler::kPatience + int64_t{tenants} * (256 / quarter + 2);
    int32_t next = 1;
    while (next <= kArrivals || !decoder.idle()) {
      for (int32_t burst = random() % 8 == 0 ? below(40) : 0; burst > 0 && next <= kArrivals;
           --burst, ++next) {
        RequestParams params;
        params.id = next;
        params.prompt.resize(static_cast<size_t>(1 + below(random() % 4 == 0 ? 120 : 20)));
        for (int32_t& token : params.prompt) token = below(9);
        params.max_tokens = 1 + below(random() % 4 == 0 ? 60 : 12);
        params.max_branches = forks ? 8 : 1;
        params.max_depth = forks ? 2 : 1;
        params.sampling.seed = random();
        // One tenant sends most of them.
        params.tenant.id = random() % 2 == 0 ? 0 : below(tenants);
        params.tenant.weight = static_cast<float>(1 + params.tenant.id % 4);
        params.tenant.priority = params.tenant.id % 3 - 1;
        tenant_of[next] = params.tenant.id;
        if (live[params.tenant.id]++ == 0) token_at[params.tenant.id] = step;
        decoder.submit(params);
        ++arrived;
      }
      if (decoder.idle()) continue;
      ++step;
      REQUIRE(decoder.step(events));  // something is computed as long as there is a request
      for (const Event& event : events) {
        const int32_t tenant = tenant_of.at(event.request);
        if (event.kind == EventKind::token || event.kind == EventKind::branch_end) token_at[tenant] = step;
        if (event.kind != EventKind::finish) continue;
        --live[tenant];
        ++finished;
      }
      events.clear();
      for (const auto& [tenant, requests] : live) {
        if (requests == 0) continue;
        longest_wait = std::max(longest_wait, step - token_at[tenant]);
        REQUIRE(step - token_at[tenant] <= bound);
      }
      decoder.check_integrity();
      // Branches that share a prefix compute it once, and so leave rows of theirs.
      const int64_t preempted = decoder.stats().preemptions;
      if (!drafts && !limits.prefix_cache && !forks && preempted == last_preemptions) {
        REQUIRE(model.rows >= std::min({planned.row_limit, planned.running_branches, limits.branches}));
        ++full_checks;
      }
      last_preemptions = preempted;
    }
    CHECK(decoder.stats().free_blocks == limits.blocks);
    preemptions += decoder.stats().preemptions;
    drafted += decoder.stats().drafted_by_ngrams;
  }
  MESSAGE(arrived << " requests, " << preemptions << " preemptions, longest wait of a tenant " << longest_wait
                  << " steps, " << full_checks << " steps checked for wasted rows, " << drafted
                  << " tokens drafted");
  CHECK(arrived == 100000);
  CHECK(finished == arrived);
  CHECK(preemptions > 10000);
  CHECK(full_checks > 10000);
  CHECK(drafted > 10000);
}
