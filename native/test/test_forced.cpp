// Forced answers: the same tokens, forks, steps and KV blocks as an answer that the model gave.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "common/error.h"
#include "core/decoder.h"
#include "drafting_model.h"
#include "staggered.h"
#include "transcript.h"

using namespace apar;

namespace {

constexpr int32_t kVocab = 12, kFork = 9, kChild = 10, kEos = 11;
const ControlTokens kTokens{kFork, kChild, {kEos}};
constexpr int32_t kContext = 256;

struct Settings {
  int32_t blocks = 256, branches = 16;
  bool draws = false;
  Heads heads = Heads::none;
  PolicyKind policy = PolicyKind::eager;
  Speculation speculation = Speculation::off;
};

struct Served {
  std::vector<Event> events;
  DecoderStats stats;
  std::map<int32_t, Transcript> transcripts;
};

Served serve(const Settings& settings, const std::vector<RequestParams>& requests) {
  DecoderConfig config;
  config.tokens = kTokens;
  config.max_step_tokens = 48;
  config.max_branches = settings.branches;
  config.policy = settings.policy;
  config.speculation = settings.speculation;
  DraftingModel model(kVocab, kContext, settings.blocks, 48, kTokens, settings.heads, settings.draws);
  config.clock = model.clock();
  Decoder decoder(model, config);
  Served served;
  served.events = test::run_staggered(decoder, requests, 50000);
  for (const RequestParams& request : requests)
    served.transcripts.emplace(request.id, Transcript(request.prompt));
  for (const Event& event : served.events) {
    if (event.kind != EventKind::trace) REQUIRE(served.transcripts.at(event.request).apply(event) == "");
  }
  served.stats = decoder.stats();
  return served;
}

RequestParams request(int32_t id, int32_t max_tokens = 200) {
  RequestParams params;
  params.id = id;
  std::mt19937 random(static_cast<uint32_t>(id));
  params.prompt.resize(1 + random() % 40);
  for (int32_t& token : params.prompt) token = static_cast<int32_t>(random() % 9);
  params.max_tokens = max_tokens;
  params.max_branches = 16;
  params.max_depth = 4;
  return params;
}

std::vector<ForcedBranch> answer_of(const Transcript& transcript) {
  std::vector<ForcedBranch> answer;
  for (const auto& [id, branch] : transcript.branches) {
    REQUIRE(id == static_cast<int32_t>(answer.size()));
    answer.push_back(
        {branch.parent, {branch.path.begin() + static_cast<ptrdiff_t>(branch.own_from), branch.path.end()}});
  }
  return answer;
}

// The same request with its answer forced. Its sampling parameters have the model say something else.
RequestParams replay_of(RequestParams params, const Transcript& transcript) {
  params.forced = answer_of(transcript);
  params.sampling.temperature = 2;
  params.sampling.seed = 99;
  return params;
}

// The text of a branch and of all below it in document order, without control tokens.
void append_text(const std::vector<ForcedBranch>& answer, int32_t branch, std::vector<int32_t>& text) {
  int32_t child = branch;
  for (const int32_t token : answer[static_cast<size_t>(branch)].tokens) {
    if (token == kFork) {
      do ++child;
      while (answer[static_cast<size_t>(child)].parent != branch);
      append_text(answer, child, text);
    } else if (token != kChild) {
      text.push_back(token);
    }
  }
}

std::vector<int32_t> text_of(const std::vector<ForcedBranch>& answer) {
  std::vector<int32_t> text;
  append_text(answer, kRootBranch, text);
  return text;
}

bool same(const Event& one, const Event& other) {
  return std::tie(one.kind, one.request, one.branch, one.a, one.b) ==
         std::tie(other.kind, other.request, other.branch, other.a, other.b);
}

// Two forks of the root; the first child forks, too, and the second has no text.
const std::vector<ForcedBranch> kNested = {
    {-1, {1, kFork, 2, kFork, 3}}, {0, {kChild, 4, kFork, 5, 5}}, {1, {kChild, 6, 6, 6}}, {0, {kChild}}};

}  // namespace

TEST_CASE("a replay of what the model answered has the same events, steps, KV blocks and preemptions") {
  int32_t forks = 0, others = 0, full = 0;
  int64_t preemptions = 0;
  for (int32_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    Settings settings;
    settings.draws = seed % 2 == 1;
    settings.blocks = seed % 3 == 0 ? 24 : 256;
    settings.branches = seed % 5 == 0 ? 4 : 16;
    std::vector<RequestParams> asked;
    for (int32_t i = 0; i < 4; ++i) {
      RequestParams params = request(4 * seed + i + 1, 20 + 60 * i);
      params.trace = true;
      if (seed % 4 == 0) params.max_branch_tokens = 30;
      asked.push_back(params);
    }
    const Served answered = serve(settings, asked);
    std::vector<RequestParams> forced, sampled;
    for (const RequestParams& params : asked) {
      const Transcript& transcript = answered.transcripts.at(params.id);
      forced.push_back(replay_of(params, transcript));
      sampled.push_back(forced.back());
      sampled.back().forced.clear();
      forks += static_cast<int32_t>(transcript.branches.size()) - 1;
      full += transcript.finish == FinishReason::length ? 1 : 0;
    }
    const Served replayed = serve(settings, forced);
    REQUIRE(replayed.events.size() == answered.events.size());
    CHECK(std::equal(replayed.events.begin(), replayed.events.end(), answered.events.begin(), same));
    CHECK(replayed.stats.steps == answered.stats.steps);
    CHECK(replayed.stats.prefill_tokens == answered.stats.prefill_tokens);
    CHECK(replayed.stats.preemptions == answered.stats.preemptions);
    preemptions += replayed.stats.preemptions;
    const Served other = serve(settings, sampled);
    for (const RequestParams& params : forced)
      others += text_of(answer_of(other.transcripts.at(params.id))) != text_of(params.forced) ? 1 : 0;
  }
  CHECK(forks > 400);
  CHECK(others > 200);
  CHECK(full > 30);
  CHECK(preemptions > 20);
}

TEST_CASE("the tokens behind a fork that limits or the policy refuse come in document order") {
  RequestParams params = request(1);
  params.forced = kNested;
  const std::vector<int32_t> text = {1, 4, 6, 6, 6, 5, 5, 2, 3};
  CHECK(text_of(kNested) == text);
  SUBCASE("all of them") {
    SUBCASE("by depth") {
      params.max_depth = 1;
    }
    SUBCASE("by branches") {
      params.max_branches = 1;
    }
    const Served served = serve({}, {params});
    CHECK(answer_of(served.transcripts.at(1)).size() == 1);
    CHECK(answer_of(served.transcripts.at(1))[0].tokens == text);
    CHECK(served.stats.forks_refused == 3);
  }
  SUBCASE("by the policy") {
    const Served served = serve({.policy = PolicyKind::serial}, {params});
    CHECK(answer_of(served.transcripts.at(1))[0].tokens == text);
  }
  SUBCASE("of the lower level only") {
    params.max_depth = 2;
    const Served served = serve({}, {params});
    const auto answer = answer_of(served.transcripts.at(1));
    REQUIRE(answer.size() == 3);
    CHECK(answer[0].tokens == kNested[0].tokens);
    CHECK(answer[1].tokens == std::vector<int32_t>{kChild, 4, 6, 6, 6, 5, 5});
    CHECK(served.stats.forks_refused == 1);
  }
}

TEST_CASE("a refused fork's own forks may come later: no text is lost and none comes twice") {
  int32_t some = 0;
  for (int32_t seed = 1; seed <= 60; ++seed) {
    const RequestParams asked = request(seed);
    const Served answered = serve({}, {asked});
    const auto answer = answer_of(answered.transcripts.at(seed));
    RequestParams forced = replay_of(asked, answered.transcripts.at(seed));
    forced.max_tokens = 400;
    // As many branches as the batch has places: later forks find one that has become free.
    const Served capped = serve({.branches = 2, .policy = PolicyKind::capped}, {forced});
    const auto replayed = answer_of(capped.transcripts.at(seed));
    CHECK(text_of(replayed) == text_of(answer));
    some += replayed.size() > 1 && replayed.size() < answer.size() ? 1 : 0;
  }
  CHECK(some > 5);
}

TEST_CASE("a forced answer has no candidates") {
  RequestParams params = request(1);
  params.forced = {{-1, std::vector<int32_t>(60, 3)}};  // n-grams would all be accepted
  for (const Heads heads : {Heads::none, Heads::right}) {
    const Served served = serve({.heads = heads, .speculation = Speculation::automatic}, {params});
    CHECK(served.stats.drafted_by_heads + served.stats.drafted_by_ngrams == 0);
    CHECK(served.stats.generated_tokens == 60);
  }
}

TEST_CASE("an impossible answer is refused") {
  FakeModel model(kVocab, 64, 32, 32);
  Decoder decoder(model, {kTokens, 32, 8});
  Decoder plain(model, {{-1, -1, {kEos}}, 32, 8});
  using Answer = std::vector<ForcedBranch>;
  const std::vector<std::pair<const char*, Answer>> cases = {
      {"the root has a parent", {{0, {1}}}},
      {"a second root", {{-1, {1}}, {-1, {kChild}}}},
      {"a parent behind the child", {{-1, {kFork}}, {2, {kChild}}, {0, {kChild, kFork}}}},
      {"its own parent", {{-1, {kFork}}, {1, {kChild, kFork}}}},
      {"a token beyond the vocabulary", {{-1, {kVocab}}}},
      {"a negative token", {{-1, {-1}}}},
      {"[Child] in the root", {{-1, {kChild, 1}}}},
      {"a child without [Child]", {{-1, {kFork, 1}}, {0, {1}}}},
      {"an empty child", {{-1, {kFork, 1}}, {0, {}}}},
      {"[Child] in the middle", {{-1, {kFork, 1}}, {0, {kChild, 1, kChild}}}},
      {"[Fork] without a child", {{-1, {1, kFork, 1}}}},
      {"a child without [Fork]", {{-1, {1}}, {0, {kChild}}}},
  };
  RequestParams params = request(1, 20);
  for (const auto& [name, answer] : cases) {
    CAPTURE(name);
    params.forced = answer;
    CHECK_THROWS_AS(decoder.validate(params), Error);
  }
  params.forced = kNested;
  CHECK_NOTHROW(decoder.validate(params));
  CHECK_THROWS_AS(plain.validate(params), Error);
  params.branches = {{0, -1, -1, {1}, FinishReason::none}};
  CHECK_THROWS_AS(decoder.validate(params), Error);
}
