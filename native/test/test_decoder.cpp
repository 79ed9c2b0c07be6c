#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <random>

#include "core/decoder.h"
#include "fake_model.h"
#include "serial_check.h"
#include "transcript.h"

using namespace apar;

namespace {

constexpr int32_t kVocab = 12, kFork = 9, kChild = 10, kEos = 11;

struct Limits {
  int32_t blocks = 64, step_tokens = 32, branches = 8, context = 256;
};

struct Rig {
  explicit Rig(Limits limits)
      : model(kVocab, limits.context, limits.blocks, limits.step_tokens),
        decoder(model, {{kFork, kChild, {kEos}}, limits.step_tokens, limits.branches}) {}

  void submit(const RequestParams& params) {
    decoder.submit(params);
    transcripts.emplace(params.id, Transcript(params.prompt));
  }
  bool step() {
    const bool busy = decoder.step(events);
    apply_events();
    return busy;
  }
  void apply_events() {
    for (const Event& event : events) REQUIRE(transcripts.at(event.request).apply(event) == "");
    events.clear();
    decoder.check_integrity();
  }
  void run() {
    int steps = 0;
    while (!decoder.idle()) {
      REQUIRE(step());
      REQUIRE(++steps < 20000);
    }
    CHECK(decoder.stats().free_blocks == model.num_blocks());
  }

  FakeModel model;
  Decoder decoder;
  std::map<int32_t, Transcript> transcripts;
  std::vector<Event> events;
};

RequestParams request(int32_t id, std::vector<int32_t> prompt, int32_t max_tokens, int32_t branches = 8,
                      int32_t depth = 3) {
  RequestParams params;
  params.id = id;
  params.prompt = std::move(prompt);
  params.max_tokens = max_tokens;
  params.max_branches = branches;
  params.max_depth = depth;
  return params;
}

std::vector<int32_t> random_prompt(std::mt19937& random, int32_t max_length) {
  std::vector<int32_t> prompt(1 + random() % static_cast<uint32_t>(max_length));
  for (int32_t& token : prompt) token = static_cast<int32_t>(random() % 9);
  return prompt;
}

void check_serial(const Transcript& transcript, const RequestParams& params) {
  const auto logits_after = [](std::span<const int32_t> path, size_t first) {
    return FakeModel::logits_after(path, first, kVocab);
  };
  CHECK(serial_mismatch(transcript, params, {kFork, kChild, {kEos}}, logits_after) == "");
}

}  // namespace

TEST_CASE("parallel decoding gives the tokens of serial decoding for any batch, pool size and token budget") {
  int forks = 0, preempted = 0;
  for (uint32_t seed = 0; seed < 1000; ++seed) {
    std::mt19937 random(seed);
    Limits limits;
    limits.branches = 1 + static_cast<int32_t>(random() % 12);
    limits.step_tokens = limits.branches + static_cast<int32_t>(random() % 24);
    limits.blocks = 10 + static_cast<int32_t>(random() % 8);
    Rig rig(limits);
    std::vector<RequestParams> requests;
    const int32_t count = 1 + static_cast<int32_t>(random() % 5);
    for (int32_t id = 1; id <= count; ++id) {
      // 10 blocks hold the longest path: 40 + 100 tokens and one more block for each level below the root.
      // The limit of 64 branches is never reached, so it refuses no fork.
      requests.push_back(request(id, random_prompt(random, 40), 1 + static_cast<int32_t>(random() % 100), 64,
                                 1 + static_cast<int32_t>(random() % 2)));
    }
    for (const RequestParams& params : requests) {
      rig.submit(params);
      for (uint32_t i = random() % 4; i > 0; --i) rig.step();
    }
    rig.run();
    for (const RequestParams& params : requests) {
      const Transcript& transcript = rig.transcripts.at(params.id);
      CHECK(transcript.tokens <= params.max_tokens);
      CHECK((transcript.finish == FinishReason::stop || transcript.tokens == params.max_tokens));
      check_serial(transcript, params);
      forks += static_cast<int>(transcript.branches.size()) - 1;
    }
    preempted += static_cast<int>(rig.decoder.stats().preemptions);
  }
  // The runs must have covered forks and preemption.
  CHECK(forks > 100);
  CHECK(preempted > 100);
}

TEST_CASE("branches nest deeper than two levels, up to max_depth") {
  int deepest = 0;
  for (int32_t seed = 0; seed < 60; ++seed) {
    std::mt19937 random(static_cast<uint32_t>(seed));
    Rig rig({.blocks = 256, .step_tokens = 64, .branches = 32, .context = 512});
    const RequestParams params = request(1, random_prompt(random, 20), 400, 64, 5);
    rig.submit(params);
    rig.run();
    const Transcript& transcript = rig.transcripts.at(1);
    for (const auto& [id, branch] : transcript.branches) deepest = std::max(deepest, transcript.depth(id));
    check_serial(transcript, params);
  }
  CHECK(deepest > 2);
  CHECK(deepest <= 5);
}

TEST_CASE("max_branches limits the live branches, including the root") {
  for (int32_t max_branches = 1; max_branches <= 3; ++max_branches) {
    std::mt19937 random(7);
    Rig rig({});
    rig.submit(request(1, random_prompt(random, 20), 150, max_branches, 8));
    size_t peak = 0;
    while (!rig.decoder.idle()) {
      rig.step();
      size_t alive = 0;
      for (const auto& [id, branch] : rig.transcripts.at(1).branches)
        alive += branch.reason == FinishReason::none;
      peak = std::max(peak, alive);
    }
    CHECK(peak <= static_cast<size_t>(max_branches));
  }
}

TEST_CASE("serial mode never forks") {
  for (const auto& [branches, depth] : {std::pair{1, 8}, std::pair{8, 1}}) {
    Rig rig({});
    rig.submit(request(1, {1, 2, 3}, 100, branches, depth));
    rig.run();
    CHECK(rig.transcripts.at(1).branches.size() == 1);
    const auto& path = rig.transcripts.at(1).branches.at(0).path;
    CHECK(std::find(path.begin(), path.end(), kFork) == path.end());
  }
}

TEST_CASE("abort ends a request, or a branch with its descendants, and frees the blocks at once") {
  int branches_aborted = 0;
  for (uint32_t seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    Rig rig({});
    rig.submit(request(1, random_prompt(random, 30), 120, 16, 4));
    rig.submit(request(2, random_prompt(random, 30), 60, 16, 4));
    for (uint32_t i = random() % 25; i > 0; --i) rig.step();
    Transcript& transcript = rig.transcripts.at(1);
    if (transcript.finish != FinishReason::none) continue;
    const auto aborted = static_cast<int32_t>(random() % transcript.branches.size());
    rig.decoder.abort_branch(1, aborted, rig.events);
    rig.apply_events();
    for (const auto& [id, branch] : transcript.branches) {
      bool below = false;
      for (int32_t up = id; up >= 0; up = transcript.branches.at(up).parent) below |= up == aborted;
      if (below) CHECK(branch.reason != FinishReason::none);
    }
    if (aborted == 0) CHECK(transcript.finish == FinishReason::abort);
    branches_aborted += aborted != 0;
    rig.decoder.abort(2, rig.events);
    rig.decoder.abort(99, rig.events);
    for (const int32_t unknown : {77, -1, INT32_MIN, INT32_MAX})
      rig.decoder.abort_branch(1, unknown, rig.events);
    rig.apply_events();
    rig.run();
  }
  CHECK(branches_aborted > 20);
}

TEST_CASE("the same seed gives the same text, independent of other requests") {
  const auto sampled = [](int32_t noise) {
    Rig rig({.blocks = 40, .step_tokens = 20, .branches = 6, .context = 400});
    std::mt19937 random(3);
    for (int32_t id = 2; id < 2 + noise; ++id) rig.submit(request(id, random_prompt(random, 40), 50));
    RequestParams params = request(1, {1, 2, 3, 4}, 300, 64, 3);
    params.sampling = {
        .temperature = 0.8f, .top_p = 0.95f, .repetition_penalty = 1.1f, .top_k = 8, .seed = 42};
    rig.submit(params);
    rig.run();
    // The ids of branches depend on timing, their texts do not.
    std::vector<std::vector<int32_t>> paths;
    for (const auto& [id, branch] : rig.transcripts.at(1).branches) paths.push_back(branch.path);
    std::sort(paths.begin(), paths.end());
    return paths;
  };
  const auto alone = sampled(0);
  CHECK(alone.size() > 1);
  for (int32_t noise = 1; noise <= 4; ++noise) CHECK(sampled(noise) == alone);
}

TEST_CASE("a device failure ends every request exactly once, with reason error") {
  Rig rig({});
  rig.submit(request(1, {1, 2, 3}, 100));
  rig.submit(request(2, {4, 5}, 100));
  rig.model.fail_after = 5;
  CHECK_THROWS_AS(
      [&] {
        while (rig.decoder.step(rig.events)) {
        }
      }(),
      Error);
  rig.apply_events();
  for (const int32_t id : {1, 2}) {
    const FinishReason finish = rig.transcripts.at(id).finish;
    CHECK((finish == FinishReason::error || finish == FinishReason::stop));
  }
  CHECK(rig.decoder.idle());
  CHECK(rig.decoder.stats().free_blocks == rig.model.num_blocks());
}

TEST_CASE("requests outside the limits are refused with an error code") {
  Rig rig({.blocks = 8, .context = 100});
  const auto code = [&](auto&& change) {
    RequestParams params = request(1, {1, 2}, 10);
    change(params);
    try {
      rig.decoder.submit(params);
    } catch (const Error& error) {
      return std::string(to_string(error.code()));
    }
    return std::string("accepted");
  };
  CHECK(code([](auto& p) { p.id = 0; }) == "invalid_request");
  CHECK(code([](auto& p) { p.prompt.clear(); }) == "invalid_request");
  CHECK(code([](auto& p) { p.prompt[0] = kVocab; }) == "invalid_request");
  CHECK(code([](auto& p) { p.prompt[1] = -1; }) == "invalid_request");
  CHECK(code([](auto& p) { p.max_tokens = 0; }) == "invalid_request");
  CHECK(code([](auto& p) { p.max_branches = 0; }) == "invalid_request");
  CHECK(code([](auto& p) { p.max_depth = 0; }) == "invalid_request");
  CHECK(code([](auto& p) { p.sampling.temperature = std::numeric_limits<float>::quiet_NaN(); }) ==
        "invalid_request");
  CHECK(code([](auto& p) { p.sampling.top_p = 0; }) == "invalid_request");
  CHECK(code([](auto& p) { p.sampling.min_p = 2; }) == "invalid_request");
  CHECK(code([](auto& p) { p.sampling.repetition_penalty = 0; }) == "invalid_request");
  CHECK(code([](auto& p) { p.prompt.assign(100, 1); }) == "request_too_large");
  CHECK(code([](auto& p) { p.max_depth = 4, p.max_tokens = 90; }) == "request_too_large");
  CHECK(code([](auto& p) { p.max_tokens = 90, p.max_depth = 2; }) == "accepted");
  CHECK(code([](auto&) {}) == "duplicate_request");
  rig.events.clear();
  rig.decoder.abort_all(FinishReason::abort, rig.events);
  CHECK(rig.decoder.idle());
}

TEST_CASE("a branch ends where the model's context ends") {
  Rig rig({.blocks = 64, .context = 48});
  rig.submit(request(1, std::vector<int32_t>(40, 1), 500, 16, 3));
  rig.run();
  for (const auto& [id, branch] : rig.transcripts.at(1).branches) CHECK(branch.path.size() <= 48);
}
