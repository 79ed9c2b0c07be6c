#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <random>

#include "core/decoder.h"
#include "fake_model.h"
#include "transcript.h"

using namespace apar;

namespace {

constexpr int32_t kVocab = 12, kFork = 9, kChild = 10, kEos = 11;
const ControlTokens kTokens{kFork, kChild, {kEos}};

// One request on its own decoder.
struct Run {
  Run(RequestParams request, Transcript so_far, int32_t blocks = 256, int32_t step_tokens = 48)
      : model(kVocab, 512, blocks, step_tokens),
        decoder(model, {kTokens, step_tokens, 16}),
        transcript(std::move(so_far)) {
    decoder.submit(std::move(request));
  }
  bool step() {
    std::vector<Event> events;
    const bool busy = decoder.step(events);
    for (const Event& event : events) REQUIRE(transcript.apply(event) == "");
    decoder.check_integrity();
    return busy;
  }
  void run(int steps = 1000000) {
    while (!decoder.idle() && steps-- > 0) REQUIRE(step());
  }

  FakeModel model;
  Decoder decoder;
  Transcript transcript;
};

RequestParams request(std::mt19937& random, int32_t max_tokens) {
  RequestParams params;
  params.id = 1;
  params.prompt.resize(1 + random() % 40);
  for (int32_t& token : params.prompt) token = static_cast<int32_t>(random() % 9);
  params.max_tokens = max_tokens;
  params.max_branches = 64;
  params.max_depth = 4;
  return params;
}

// The branches of a request, built from its events: all that another engine receives.
std::vector<RestoredBranch> branches_of(const Transcript& transcript) {
  std::vector<RestoredBranch> branches;
  for (const auto& [id, text] : transcript.branches) {
    const auto own = static_cast<std::ptrdiff_t>(text.own_from);
    const int32_t fork = id == kRootBranch ? -1 : static_cast<int32_t>(own) - 1;
    branches.push_back({id, text.parent, fork, {text.path.begin() + own, text.path.end()}, text.reason});
  }
  return branches;
}

// The path and finish reason of every branch, by id.
std::map<int32_t, std::pair<std::vector<int32_t>, FinishReason>> texts_of(const Transcript& transcript) {
  std::map<int32_t, std::pair<std::vector<int32_t>, FinishReason>> texts;
  for (const auto& [id, branch] : transcript.branches)
    texts.emplace(id, std::pair(branch.path, branch.reason));
  return texts;
}

}  // namespace

TEST_CASE("a request that moves between engines any number of times ends as on one engine") {
  int moves = 0, forks = 0, ended = 0, full = 0;
  for (uint32_t seed = 0; seed < 400; ++seed) {
    std::mt19937 random(seed);
    RequestParams params = request(random, 3 + static_cast<int32_t>(random() % 600));
    if (seed % 2 == 1) {  // sampled with the request's own seed
      params.sampling.temperature = 1.0f;
      params.sampling.repetition_penalty = 1.1f;
      params.sampling.seed = seed;
    }
    if (seed % 3 == 0) params.max_branch_tokens = 30;
    Run whole(params, Transcript(params.prompt));
    whole.run();
    forks += static_cast<int>(whole.transcript.branches.size()) - 1;

    // With smaller pools and steps: the texts must not depend on them.
    Transcript so_far(params.prompt);
    while (so_far.finish == FinishReason::none) {
      RequestParams moved = params;
      if (so_far.tokens > 0) moved.branches = branches_of(so_far);
      for (const RestoredBranch& branch : moved.branches) ended += branch.ended != FinishReason::none ? 1 : 0;
      Run part(moved, so_far, 64 + static_cast<int32_t>(random() % 64),
               16 + static_cast<int32_t>(random() % 32));
      part.run(1 + static_cast<int>(random() % 60));
      so_far = part.transcript;
      ++moves;
    }
    // Near its limits, too (docs/adr/0028).
    CHECK(so_far.finish == whole.transcript.finish);
    CHECK(texts_of(so_far) == texts_of(whole.transcript));
    if (whole.transcript.tokens == params.max_tokens) ++full;
  }
  CHECK(full > 150);
  CHECK(moves > 800);
  CHECK(forks > 400);
  CHECK(ended > 200);
}

TEST_CASE("a restored tree computes shared tokens once and frees all blocks at the end") {
  std::mt19937 random(6);
  RequestParams params = request(random, 300);
  Run first(params, Transcript(params.prompt));
  while (first.decoder.stats().live_branches < 4) REQUIRE(first.step());
  params.branches = branches_of(first.transcript);
  // The number of tokens on paths of live branches, each counted once.
  int64_t needed = static_cast<int64_t>(params.prompt.size());
  // Own tokens of each branch that a live branch needs; -1 for none.
  std::vector<int32_t> used(params.branches.size(), -1);
  for (size_t i = params.branches.size(); i-- > 0;) {
    const RestoredBranch& branch = params.branches[i];
    const auto own = static_cast<int32_t>(branch.tokens.size());
    if (branch.ended == FinishReason::none) used[i] = own;
    if (used[i] > 0) needed += used[i];
    if (used[i] < 0 || branch.parent < 0) continue;
    const auto parent = static_cast<size_t>(branch.parent);
    const auto start = static_cast<int32_t>(first.transcript.branches.at(branch.parent).own_from);
    used[parent] = std::max(used[parent], branch.fork_position + 1 - start);
  }
  Run second(params, first.transcript);
  const size_t live_before = static_cast<size_t>(second.decoder.stats().live_branches);
  CHECK(live_before > 1);
  int64_t rows = 0;
  // Up to the first sampled token the steps compute only the restored tree.
  while (second.decoder.stats().generated_tokens == 0) {
    REQUIRE(second.step());
    rows = second.decoder.stats().prefill_tokens;
  }
  CHECK(rows <= needed);
  CHECK(rows + 2 * static_cast<int64_t>(live_before) + 48 >= needed);
  second.run();
  CHECK(second.decoder.stats().free_blocks == second.model.num_blocks());
}

TEST_CASE("branch ids up to the highest restored id are not reused") {
  RequestParams params;
  params.id = 1;
  params.prompt = {1, 2, 3};
  params.max_tokens = 200;
  params.max_branches = 64;
  params.max_depth = 4;
  params.branches = {{0, -1, -1, {4, kFork, 5, kFork, 6}, FinishReason::none},
                     {7, 0, 6, {kChild, 1}, FinishReason::none}};
  Transcript so_far(params.prompt);
  so_far.branches[0].path = {1, 2, 3, 4, kFork, 5, kFork, 6};
  so_far.branches[7] = {0, {1, 2, 3, 4, kFork, 5, kFork, kChild, 1}, 7, FinishReason::none};
  Run run(params, so_far);
  run.run();
  for (const auto& [id, branch] : run.transcript.branches) CHECK((id == 0 || id >= 7));
  CHECK(run.transcript.branches.size() > 2);
}

TEST_CASE("an impossible branch tree is refused") {
  FakeModel model(kVocab, 64, 32, 32);
  Decoder decoder(model, {kTokens, 32, 8});
  using Branches = std::vector<RestoredBranch>;
  const RestoredBranch root{0, -1, -1, {4, kFork, 5, kFork, 6}, FinishReason::none};
  const auto child = [](int32_t id, int32_t parent, int32_t at, std::vector<int32_t> tokens) {
    return RestoredBranch{id, parent, at, std::move(tokens), FinishReason::none};
  };
  const std::vector<std::pair<const char*, Branches>> cases = {
      {"no root", {child(1, 0, 4, {kChild})}},
      {"the root has a parent", {{0, 0, -1, {4}, FinishReason::none}}},
      {"the same id twice", {root, child(1, 0, 4, {kChild}), child(1, 0, 6, {kChild})}},
      {"not in order", {root, child(2, 0, 4, {kChild}), child(1, 0, 6, {kChild})}},
      {"an unknown parent", {root, child(2, 1, 4, {kChild})}},
      {"forks in the wrong order", {root, child(1, 0, 6, {kChild}), child(2, 0, 4, {kChild})}},
      {"two children at one [Fork]", {root, child(1, 0, 4, {kChild}), child(2, 0, 4, {kChild})}},
      {"no [Fork] there", {root, child(1, 0, 5, {kChild})}},
      {"a fork in the prompt", {root, child(1, 0, 2, {kChild})}},
      {"a fork beyond the parent", {root, child(1, 0, 60, {kChild})}},
      {"a huge position", {root, child(1, 0, std::numeric_limits<int32_t>::max(), {kChild})}},
      {"no [Child]", {root, child(1, 0, 4, {5})}},
      {"an empty child", {root, child(1, 0, 4, {})}},
      {"a token beyond the vocabulary", {{0, -1, -1, {kVocab}, FinishReason::none}}},
      {"a negative token", {{0, -1, -1, {-1}, FinishReason::none}}},
      {"all branches have ended", {{0, -1, -1, {4}, FinishReason::stop}}},
      {"max_tokens is used up", {{0, -1, -1, std::vector<int32_t>(50, 4), FinishReason::none}}},
      {"the context is full", {{0, -1, -1, std::vector<int32_t>(61, 4), FinishReason::none}}},
      {"deeper than max_depth",
       {root, child(1, 0, 4, {kChild, kFork, 5}), child(2, 1, 6, {kChild, kFork, 5}),
        child(3, 2, 8, {kChild})}},
      {"a huge id", {root, child(std::numeric_limits<int32_t>::max(), 0, 4, {kChild})}},
  };
  for (const auto& [name, branches] : cases) {
    CAPTURE(name);
    RequestParams params;
    params.id = 1;
    params.prompt = {1, 2, 3};
    params.max_tokens = 50;
    params.max_branches = 4;
    params.max_depth = 3;
    params.branches = branches;
    CHECK_THROWS_AS(decoder.validate(params), Error);
  }
  CHECK(decoder.idle());
}
