// What a request gives depends on the request alone: the same branches with the same ids, tokens and reasons,
// whatever runs beside it and however the steps are cut.
#include <doctest/doctest.h>

#include <algorithm>
#include <random>

#include "core/decoder.h"
#include "core/virtual_order.h"
#include "fake_model.h"
#include "transcript.h"

using namespace apar;

namespace {

constexpr int32_t kVocab = 12, kFork = 9, kChild = 10, kEos = 11;

struct Schedule {
  int32_t blocks, step_tokens, branches;
  bool prefix_cache;
  uint32_t others;  // requests that come and go beside it
  uint32_t seed;
};

struct Outcome {
  Transcript transcript;
  int64_t preemptions;
};

bool same(const Transcript& a, const Transcript& b) {
  const auto equal = [](const auto& x, const auto& y) {
    return x.first == y.first && x.second.parent == y.second.parent && x.second.path == y.second.path &&
           x.second.own_from == y.second.own_from && x.second.reason == y.second.reason;
  };
  return a.finish == b.finish && a.tokens == b.tokens && a.branches.size() == b.branches.size() &&
         std::equal(a.branches.begin(), a.branches.end(), b.branches.begin(), equal);
}

RequestParams random_request(std::mt19937& random, int32_t id) {
  RequestParams params;
  params.id = id;
  params.prompt.resize(1 + random() % 30);
  for (int32_t& token : params.prompt) token = static_cast<int32_t>(random() % 9);
  params.max_tokens = 1 + static_cast<int32_t>(random() % 120);
  params.max_branches = 1 + static_cast<int32_t>(random() % (random() % 2 == 0 ? 4 : 40));
  params.max_depth = 1 + static_cast<int32_t>(random() % 4);
  if (random() % 3 == 0) params.max_branch_tokens = 10 + static_cast<int32_t>(random() % 30);
  if (random() % 3 == 0) params.stop = {"abc", "fg"};
  if (random() % 2 == 0) {
    params.sampling.temperature = 1.0f;
    params.sampling.seed = static_cast<uint32_t>(random());
  }
  params.tenant.id = static_cast<int32_t>(random() % 3);
  return params;
}

Outcome run(const RequestParams& params, const Schedule& schedule) {
  FakeModel model(kVocab, 512, schedule.blocks, schedule.step_tokens);
  DecoderConfig config;
  config.tokens = {kFork, kChild, {kEos}};
  config.max_step_tokens = schedule.step_tokens;
  config.max_branches = schedule.branches;
  config.prefix_cache = schedule.prefix_cache;
  config.text = letters(kVocab);
  Decoder decoder(model, std::move(config));
  std::mt19937 random(schedule.seed);
  Transcript transcript(params.prompt);
  std::vector<Event> events;
  uint32_t others = schedule.others;
  const auto submit_others = [&](uint32_t count) {
    for (; count > 0 && others > 0; --count, --others)
      decoder.submit(random_request(random, 1000 + static_cast<int32_t>(others)));
  };
  submit_others(random() % 4);
  decoder.submit(params);
  int steps = 0;
  while (transcript.finish == FinishReason::none) {
    REQUIRE(decoder.step(events));
    REQUIRE(++steps < 20000);
    for (const Event& event : events)
      if (event.request == params.id) REQUIRE(transcript.apply(event) == "");
    events.clear();
    decoder.check_integrity();
    submit_others(random() % 2);
  }
  return {std::move(transcript), decoder.stats().preemptions};
}

}  // namespace

TEST_CASE("a request gives the same branches under any load, step size and pool") {
  int64_t preemptions = 0;
  int forks = 0, by_length = 0, at_limit = 0, stopped = 0;
  for (uint32_t seed = 0; seed < 600; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    const RequestParams params = random_request(random, 1);
    // Room for all branches at once: they advance together, which is the virtual order.
    const Transcript alone = run(params, {2048, 2048, 256, true, 0, 0}).transcript;
    forks += static_cast<int>(alone.branches.size()) - 1;
    by_length += alone.finish == FinishReason::length && alone.branches.size() > 2 ? 1 : 0;
    at_limit += static_cast<int>(alone.branches.size()) > params.max_branches ? 1 : 0;
    stopped += !params.stop.empty();
    for (int i = 0; i < 6; ++i) {
      Schedule schedule{};
      schedule.branches = 1 + static_cast<int32_t>(random() % 8);
      schedule.step_tokens = schedule.branches + static_cast<int32_t>(random() % 12);
      schedule.blocks = 16 + static_cast<int32_t>(random() % 16);
      schedule.prefix_cache = random() % 2 == 0;
      schedule.others = random() % 8;
      schedule.seed = static_cast<uint32_t>(random());
      const Outcome outcome = run(params, schedule);
      CHECK(same(outcome.transcript, alone));
      preemptions += outcome.preemptions;
    }
  }
  MESSAGE(forks << " forks, " << by_length << " forked answers cut by length, " << at_limit
                << " with more branches than may live at once, " << preemptions << " preemptions");
  CHECK(preemptions > 500);
  CHECK(forks > 500);
  CHECK(by_length > 50);
  CHECK(at_limit > 20);
  CHECK(stopped > 100);
}

TEST_CASE("only open branches come forward in the next step") {
  Request request;
  request.params.max_tokens = 1000;
  for (int32_t id = 0; id < 3; ++id) {
    Branch& branch = request.branches.emplace_back();
    branch.id = id;
    branch.generated = id == 0 ? 9 : 10;
    branch.ready = id > 0;
    request.live.push_back(&branch);
  }
  // Two tokens of the first branch and five in reserve, but not another one of the second.
  request.generated = request.params.max_tokens - 7;
  const Branch& last = request.branches[2];
  CHECK_FALSE(must_wait(request, last, When::next_step));
  request.branches[1].gate = Gate::token;
  CHECK(must_wait(request, last, When::next_step));
}

TEST_CASE("branches that ended before every live one are forgotten, and do not count") {
  size_t forgotten = 0;
  for (uint32_t seed = 0; seed < 100; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    const auto below = [&](uint32_t end) { return static_cast<int32_t>(random() % end); };
    Request request;
    for (int32_t id = 0; id < 40; ++id) {
      Branch& branch = request.branches.emplace_back();
      branch.id = id;
      if (id > 0)
        begin_child(request.branches[static_cast<size_t>(below(static_cast<uint32_t>(id)))], below(20), 1,
                    branch);
      const bool ended = id > 0 && random() % 4 != 0;
      branch.generated = ended ? 1 + below(10) : 20 + below(30);
      branch.decided_at = branch.time() - 1;
      if (ended)
        branch.state = BranchState::ended;
      else
        request.live.push_back(&branch);
      request.recent.push_back(&branch);
    }
    std::vector<int32_t> before;
    for (const Branch* branch : request.live) before.push_back(live_at(request, *branch));
    forget_past(request);
    for (size_t i = 0; i < before.size(); ++i) CHECK(live_at(request, *request.live[i]) == before[i]);
    for (const Branch* branch : request.recent) {
      const bool counts = std::any_of(request.live.begin(), request.live.end(), [&](const Branch* live) {
        return branch->state != BranchState::ended || branch->decided_at >= live->time();
      });
      CHECK(counts);
    }
    forgotten += request.branches.size() - request.recent.size();
  }
  CHECK(forgotten > 500);
}
