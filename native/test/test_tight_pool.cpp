// Requests of several tenants whose branches wait for each other, where the pool has room for little more
// than one path.
#include <doctest/doctest.h>

#include <algorithm>
#include <list>
#include <random>

#include "core/decoder.h"
#include "timed_model.h"

using namespace apar;

namespace {

constexpr int32_t kVocab = 12, kFork = 9, kChild = 10, kEos = 11;

DecoderConfig config_for(TimedModel& model, int32_t step_tokens, int32_t branches, bool prefix_cache) {
  DecoderConfig config{{kFork, kChild, {kEos}}, step_tokens, branches, prefix_cache};
  config.clock = model.clock();
  config.speculation = Speculation::off;  // steps and rows are counted here
  return config;
}

// Blocks that validate() wants for a request.
int32_t longest_path(const RequestParams& params) {
  const auto tokens = static_cast<int32_t>(params.prompt.size()) + params.max_tokens;
  return (tokens + kBlockTokens - 1) / kBlockTokens + std::min(params.max_depth - 1, params.max_tokens);
}

// A request whose first branch has `tokens` tokens to compute.
Request& add(std::list<Request>& requests, KvTree& tree, TenantParams tenant, int32_t tokens) {
  Request& request = requests.emplace_back();
  request.params.tenant = tenant;
  Branch& root = request.branches.emplace_back();
  root.tail = tree.attach(std::vector<int32_t>(static_cast<size_t>(tokens)), 0);
  request.live.push_back(&root);
  return request;
}

// The request's first branch waits for another one, of one token, that waits to run. Returns that.
Branch& gate_for_another(Request& request, KvTree& tree, int32_t token) {
  request.branches.front().gate = Gate::token;
  Branch& behind = request.branches.emplace_back();
  behind.id = 1;
  behind.tail = tree.attach(std::vector<int32_t>{token}, 0);
  request.live.push_back(&behind);
  return behind;
}

}  // namespace

TEST_CASE("a gated branch loses its blocks to a running one of any tenant") {
  // The first request, within its share, has 6 blocks, the other has 1, and the pool has one more.
  KvTree tree(8, false);
  Scheduler scheduler(tree, {128, 8, 0});
  std::list<Request> requests;
  Request& first = add(requests, tree, {1, 10}, 5 * kBlockTokens);
  Branch& gated = first.branches.front();
  Branch& grows = first.branches.emplace_back();
  grows.id = 1;
  grows.tail = tree.attach(std::vector<int32_t>{1}, 0);
  first.live.push_back(&grows);
  Branch& other = add(requests, tree, {2, 1}, kBlockTokens).branches.front();
  for (Request& request : requests) scheduler.enter(request);
  REQUIRE(scheduler.schedule(requests));
  scheduler.update(0.01);
  REQUIRE(tree.pool().num_available() == 1);

  gated.gate = Gate::token;
  tree.append(grows.tail, std::vector<int32_t>(4 * kBlockTokens));
  tree.append(other.tail, std::vector<int32_t>{1});
  REQUIRE(scheduler.schedule(requests));
  CHECK(gated.state == BranchState::waiting);
  CHECK(grows.scheduled);
  CHECK(other.scheduled);
  scheduler.update(0.01);
}

TEST_CASE("a gated branch keeps its blocks while there is room for the one that it waits for") {
  for (const int32_t tenants : {1, 2}) {
    CAPTURE(tenants);
    KvTree tree(9, false);
    Scheduler scheduler(tree, {128, 8, 0});
    std::list<Request> requests;
    Request& request = add(requests, tree, {1, 1}, 5 * kBlockTokens);
    if (tenants == 2) add(requests, tree, {2, 1}, kBlockTokens);
    for (Request& each : requests) scheduler.enter(each);
    REQUIRE(scheduler.schedule(requests));
    scheduler.update(0.01);

    Branch& gated = request.branches.front();
    Branch& behind = gate_for_another(request, tree, 1);
    REQUIRE(scheduler.schedule(requests));
    CHECK(behind.scheduled);
    CHECK(gated.state == BranchState::running);
    CHECK(scheduler.preemptions() == 0);
    scheduler.update(0.01);
  }
}

TEST_CASE("a branch that gives its blocks up is computed again only where others took them") {
  for (const bool prefix_cache : {true, false}) {
    CAPTURE(prefix_cache);
    KvTree tree(6, prefix_cache);
    Scheduler scheduler(tree, {128, 1, 0});
    std::list<Request> requests;
    Request& request = add(requests, tree, {}, 5 * kBlockTokens);
    scheduler.enter(request);
    REQUIRE(scheduler.schedule(requests));
    scheduler.update(0.01);

    Branch& gated = request.branches.front();
    Branch& behind = gate_for_another(request, tree, 9);
    REQUIRE(scheduler.schedule(requests));
    CHECK(behind.scheduled);
    CHECK(gated.state == BranchState::waiting);
    CHECK(tree.computed_tokens(gated.tail) == 5 * kBlockTokens);
    scheduler.update(0.01);

    tree.append(behind.tail, std::vector<int32_t>(2 * kBlockTokens));
    REQUIRE(scheduler.schedule(requests));
    CHECK(tree.computed_tokens(gated.tail) == 3 * kBlockTokens);
    scheduler.update(0.01);

    for (Branch* branch : {&behind, &gated}) {
      scheduler.finish(*branch);
      tree.release(branch->tail);
    }
    CHECK(tree.pool().num_free() == (prefix_cache ? 0 : 6));
    tree.check_integrity({});
  }
}

TEST_CASE("a branch is admitted if those that run have room to grow besides") {
  KvTree tree(10, false);
  Scheduler scheduler(tree, {256, 8, 0});
  std::list<Request> requests;
  for (int32_t i = 0; i < 4; ++i) add(requests, tree, {}, 2 * kBlockTokens);
  Branch& last = add(requests, tree, {}, kBlockTokens).branches.front();
  for (Request& request : requests) scheduler.enter(request);
  REQUIRE(scheduler.schedule(requests));
  CHECK(tree.pool().num_available() == 2);
  CHECK(last.state == BranchState::waiting);
  scheduler.update(0.01);
}

TEST_CASE("a tenant is charged for the rows that it gets because no other found blocks") {
  KvTree tree(6, false);
  Scheduler scheduler(tree, {1, 8, 0});  // one row a step
  std::list<Request> requests;
  Request& first = add(requests, tree, {1, 10}, 5 * kBlockTokens);
  Request& second = add(requests, tree, {2, 1}, kBlockTokens);
  for (Request& request : requests) scheduler.enter(request);
  while (tree.pool().num_available() > 0) {
    REQUIRE(scheduler.schedule(requests));
    scheduler.update(0.01);
  }
  // The row is the second one's, whose branch finds no block for it.
  tree.append(second.branches.front().tail, std::vector<int32_t>{1});
  first.tenant->virtual_rows = 100;
  second.tenant->virtual_rows = 0;
  REQUIRE(scheduler.schedule(requests));
  CHECK(second.branches.front().state == BranchState::waiting);
  CHECK(first.branches.front().scheduled);
  CHECK(first.tenant->virtual_rows == doctest::Approx(100.1));
  scheduler.update(0.01);
}

TEST_CASE("every step computes something while there are requests, however few blocks there are") {
  int64_t finished = 0, submitted = 0, forks = 0, preemptions = 0;
  for (uint32_t seed = 0; seed < 1500; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    const auto below = [&](int32_t end) {
      return static_cast<int32_t>(random() % static_cast<uint32_t>(end));
    };
    const int32_t tenants = 1 + below(4);
    std::vector<RequestParams> requests(static_cast<size_t>(4 + below(12)));
    int32_t blocks = 1;
    for (size_t i = 0; i < requests.size(); ++i) {
      RequestParams& params = requests[i];
      params.id = static_cast<int32_t>(i) + 1;
      params.prompt.resize(static_cast<size_t>(1 + below(40)));
      for (int32_t& token : params.prompt) token = below(9);
      // Small budgets close gates early, large ones give long branches whose blocks are taken away.
      params.max_tokens = random() % 2 == 0 ? 8 + below(40) : 100 + below(200);
      params.max_branches = 1 + below(random() % 2 == 0 ? 4 : 20);
      params.max_depth = 1 + below(4);
      params.sampling.temperature = 1.0f;
      params.sampling.seed = random();
      params.logit_bias = {{kEos, random() % 2 == 0 ? -100.0f : 0.0f}, {kFork, static_cast<float>(below(4))}};
      params.tenant.id = below(tenants);
      params.tenant.weight = static_cast<float>(1 + params.tenant.id % 3);
      params.tenant.priority = random() % 4 == 0 ? below(3) : 0;
      blocks = std::max(blocks, longest_path(params));
    }
    blocks += below(4);
    const int32_t branches = 1 + below(12), step_tokens = branches + below(24);
    TimedModel model(kVocab, 512, blocks, step_tokens);
    const double per_row = below(3) * 0.01;
    model.seconds = [&](int32_t rows) { return 0.01 + per_row * rows; };
    Decoder decoder(model, config_for(model, step_tokens, branches, seed % 2 == 0));
    submitted += static_cast<int64_t>(requests.size());
    std::vector<Event> events;
    int steps = 0;
    for (size_t next = 0; next < requests.size() || !decoder.idle();) {
      for (int32_t burst = random() % 4 == 0 ? below(6) : 0; burst > 0 && next < requests.size(); --burst)
        decoder.submit(requests[next++]);
      if (decoder.idle()) continue;
      REQUIRE(decoder.step(events));
      REQUIRE(++steps < 100000);
      decoder.check_integrity();
    }
    finished += std::count_if(events.begin(), events.end(),
                              [](const Event& event) { return event.kind == EventKind::finish; });
    CHECK(decoder.stats().free_blocks == blocks);
    forks += decoder.stats().forks;
    preemptions += decoder.stats().preemptions;
  }
  MESSAGE(submitted << " requests, " << forks << " forks, " << preemptions << " preemptions");
  CHECK(finished == submitted);
  CHECK(forks > 10000);
  CHECK(preemptions > 10000);
}

TEST_CASE("a thousand requests end in a tenth of the blocks that they would need together") {
  constexpr int32_t kRequests = 1000;
  std::mt19937 random(1);
  std::vector<RequestParams> requests(kRequests);
  int32_t wanted = 0;
  for (int32_t i = 0; i < kRequests; ++i) {
    RequestParams& params = requests[static_cast<size_t>(i)];
    params.id = i + 1;
    params.prompt.resize(20 + random() % 30);
    for (int32_t& token : params.prompt) token = static_cast<int32_t>(random() % 9);
    params.max_tokens = 64;
    params.max_depth = 2;
    params.sampling.temperature = 1.0f;
    params.sampling.seed = random();
    params.logit_bias = {{kEos, -100.0f}};
    wanted += (static_cast<int32_t>(params.prompt.size()) + params.max_tokens) / kBlockTokens;
  }
  // As many branches as there are blocks: the blocks alone decide who waits.
  const int32_t blocks = wanted / 10;
  TimedModel model(kVocab, 512, blocks, kRequests);
  model.seconds = [](int32_t) { return 0.01; };
  DecoderConfig config = config_for(model, kRequests, kRequests, false);
  config.watermark = 0;
  Decoder decoder(model, config);
  for (const RequestParams& params : requests) decoder.submit(params);
  std::vector<Event> events;
  while (!decoder.idle()) REQUIRE(decoder.step(events));
  decoder.check_integrity();

  int32_t finished = 0;
  for (const Event& event : events) {
    if (event.kind != EventKind::finish) continue;
    ++finished;
    CHECK(event.a == static_cast<int32_t>(FinishReason::length));
  }
  CHECK(finished == kRequests);
  CHECK(decoder.stats().preemptions > 0);
  CHECK(decoder.stats().free_blocks == blocks);
}

TEST_CASE("a branch that waits for others of its request keeps its place beside a queue of other requests") {
  int64_t tokens = 0, rows = 0;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    CAPTURE(seed);
    TimedModel model(kVocab, 512, 1024, 16);
    model.seconds = [](int32_t count) { return count * 0.001; };  // few rows a step: branches take turns
    model.before = [&] { rows += model.rows; };
    Decoder decoder(model, config_for(model, 16, 16, true));
    std::vector<Event> events;
    RequestParams forking;
    forking.id = 1;
    forking.prompt = {1, 2, 3};
    forking.max_tokens = 100;
    forking.max_branches = 8;
    forking.max_depth = 3;
    forking.sampling.temperature = 1.0f;
    forking.sampling.seed = seed;
    forking.logit_bias = {{kFork, 4.0f}, {kEos, -100.0f}};
    forking.tenant.id = 1;
    decoder.submit(forking);
    while (decoder.stats().live_branches < 8 && !decoder.idle()) REQUIRE(decoder.step(events));
    REQUIRE(decoder.stats().live_branches == 8);
    for (int32_t id = 2; id < 40; ++id) {
      RequestParams other = forking;
      other.id = id;
      other.max_tokens = 30;
      other.max_branches = 1;
      other.tenant.id = 2;
      decoder.submit(other);
    }
    while (!decoder.idle()) REQUIRE(decoder.step(events));
    tokens += decoder.stats().generated_tokens;
    CHECK(decoder.stats().preemptions == 0);
  }
  MESSAGE(tokens << " tokens, " << rows << " rows");
}

TEST_CASE(
    "a request that waits in vain for a place has all places before it at work, and no sample is dropped") {
  for (const int32_t tenants : {1, 2, 12}) {
    CAPTURE(tenants);
    int64_t full = 0, rows = 0, tokens = 0;
    for (uint64_t seed = 0; seed < 20; ++seed) {
      CAPTURE(seed);
      constexpr int32_t kPlaces = 8, kRequests = 12;
      TimedModel model(kVocab, 512, 1024, 64);
      Decoder decoder(model, config_for(model, 64, kPlaces, false));
      std::vector<Event> events;
      for (int32_t id = 1; id <= kRequests; ++id) {
        RequestParams params;
        params.id = id;
        params.tenant.id = id % tenants;
        params.prompt = {1, 2, id % 9};
        params.max_tokens = 60;
        params.max_branches = 32;
        params.max_depth = 3;
        params.sampling.temperature = 1.0f;
        params.sampling.seed = seed;
        params.logit_bias = {{kFork, 1.5f}, {kEos, -100.0f}};
        decoder.submit(params);
      }
      std::vector<bool> begun(kRequests + 1, false);
      while (!decoder.idle()) {
        const int64_t steps = decoder.stats().steps;
        REQUIRE(decoder.step(events));
        decoder.check_integrity();
        rows += model.rows;
        for (const Event& event : events) begun[static_cast<size_t>(event.request)] = true;
        events.clear();
        if (steps == 0 || std::count(begun.begin(), begun.end(), false) == 1) continue;
        REQUIRE(model.rows >= kPlaces);
        ++full;
      }
      tokens += decoder.stats().generated_tokens;
      CHECK(decoder.stats().preemptions == 0);
      CHECK(decoder.stats().free_blocks == 1024);
    }
    CHECK(full > 50);
    // No row samples [Child].
    CHECK(rows < tokens);
  }
}
