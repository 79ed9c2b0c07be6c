// A request that begins with branches whose paths a grammar constrains, as members of an object that are
// decoded in parallel (docs/adr/0078).
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <tuple>
#include <vector>

#include "common/error.h"
#include "core/decoder.h"
#include "fake_model.h"

using namespace apar;

namespace {

constexpr int32_t kVocab = 43, kFork = 40, kChild = 41, kEos = 42;
constexpr int32_t kOpen = 30, kInner = 31, kBetween = 32, kClose = 33, kFirstKey = 20;

// A path is kOpen, optionally kInner, a key, as many values as the key says, and kClose.
class Paths final : public Grammar {
  class Walk final : public Matcher {
   public:
    void fill(std::span<int32_t> mask) override {
      std::fill(mask.begin(), mask.end(), 0);
      for (int32_t token = 0; token < kVocab; ++token)
        if (fits(token)) mask[static_cast<size_t>(token) / 32] |= static_cast<int32_t>(1u << token % 32);
    }
    bool accept(int32_t token) override {
      if (token == kEos || !fits(token)) return false;
      if (place_ == Place::value && --values_ == 0) {
        place_ = Place::close;
      } else if (place_ == Place::key && token != kInner) {
        place_ = Place::value;
        values_ = token - kFirstKey + 1;
      } else if (place_ == Place::open) {
        place_ = Place::key;
      } else if (place_ == Place::close) {
        place_ = Place::end;
      }
      return true;
    }

   private:
    enum class Place : uint8_t { open, key, value, close, end };
    bool fits(int32_t token) const {
      switch (place_) {
        case Place::open:
          return token == kOpen;
        case Place::key:
          return token == kInner || (token >= kFirstKey && token < kOpen);
        case Place::value:
          return token < kFirstKey;
        case Place::close:
          return token == kClose;
        default:
          return token == kEos;
      }
    }
    Place place_ = Place::open;
    int32_t values_ = 0;
  };

 public:
  std::unique_ptr<Matcher> matcher() const override { return std::make_unique<Walk>(); }
};

using Answers = std::map<int32_t, std::pair<std::vector<int32_t>, FinishReason>>;  // own tokens by branch

struct Run {
  explicit Run(int32_t blocks = 256, ControlTokens tokens = {kFork, kChild, {kEos}}, int32_t running = 16)
      : model(kVocab, 256, blocks, 64), decoder(model, config(std::move(tokens), running)) {}

  static DecoderConfig config(ControlTokens tokens, int32_t running) {
    DecoderConfig config;
    config.tokens = std::move(tokens);
    config.max_step_tokens = 64;
    config.max_branches = running;
    return config;
  }

  // Steps until the end, or as often as it says.
  Answers serve(const RequestParams& params, int steps = 100000) {
    Answers answers;
    for (const RestoredBranch& branch : params.branches) answers[branch.id] = {branch.tokens, branch.ended};
    decoder.submit(params);
    std::vector<Event> events;
    while (steps-- > 0 && decoder.step(events)) decoder.check_integrity();
    for (const Event& event : events) {
      CHECK(event.kind != EventKind::fork);
      if (event.kind == EventKind::token) answers[event.branch].first.push_back(event.a);
      if (event.kind == EventKind::branch_end)
        answers[event.branch].second = static_cast<FinishReason>(event.a);
    }
    return answers;
  }

  FakeModel model;
  Decoder decoder;
};

// {a, {b, c}, d}: the root with three children at one place, of which one has children itself.
RequestParams request(uint32_t seed) {
  std::mt19937 random(seed);
  RequestParams params;
  params.id = 1;
  params.prompt.resize(1 + random() % 40);
  for (int32_t& token : params.prompt) token = static_cast<int32_t>(random() % 20);
  params.max_tokens = 150;
  params.max_branches = 6;
  params.max_depth = 3;
  params.grammar = std::make_shared<Paths>();
  params.sampling.temperature = 1.0f;
  params.sampling.seed = seed;
  const auto at = static_cast<int32_t>(params.prompt.size());
  params.branches = {
      {0, -1, -1, {kOpen, kBetween, kBetween}, FinishReason::stop},
      {1, 0, at, {kFirstKey + 3}, FinishReason::none},
      {2, 0, at, {kInner, kBetween}, FinishReason::stop},
      {3, 0, at, {kFirstKey + 6}, FinishReason::none},
      {4, 2, at + 1, {kFirstKey + 3}, FinishReason::none},
      {5, 2, at + 1, {kFirstKey + 3}, FinishReason::none},
  };
  return params;
}

const std::vector<int32_t> kOwn = {1, 3, 4, 5};

std::vector<int32_t> path_above(const RequestParams& params, int32_t id) {
  std::vector<int32_t> path = params.prompt;
  path.push_back(kOpen);
  if (id >= 4) path.push_back(kInner);
  return path;
}

}  // namespace

TEST_CASE("each branch matches the grammar along its path, with and without control tokens in the model") {
  for (const ControlTokens& tokens : {ControlTokens{kFork, kChild, {kEos}}, ControlTokens{-1, -1, {kEos}}}) {
    for (uint32_t seed = 0; seed < 40; ++seed) {
      const RequestParams params = request(seed);
      const Answers answers = Run(256, tokens).serve(params);
      for (const int32_t id : kOwn) {
        const auto& [own, reason] = answers.at(id);
        CHECK(reason == FinishReason::stop);
        REQUIRE(own.size() == static_cast<size_t>(own[0] - kFirstKey + 3));
        CHECK(own.back() == kClose);
        CHECK(std::all_of(own.begin() + 1, own.end() - 1, [](int32_t token) { return token < kFirstKey; }));
      }
      for (const int32_t given : {0, 2})
        CHECK(answers.at(given).first == params.branches[static_cast<size_t>(given)].tokens);
    }
  }
}

TEST_CASE("a greedy branch is what a request with its path as the prompt answers") {
  for (uint32_t seed = 0; seed < 40; ++seed) {
    RequestParams params = request(seed);
    params.sampling.temperature = 0.0f;
    const Answers answers = Run().serve(params);
    for (const int32_t id : kOwn) {
      RequestParams alone = params;
      alone.branches = {{0, -1, -1, {answers.at(id).first[0]}, FinishReason::none}};
      const std::vector<int32_t> path = path_above(params, id);
      alone.branches[0].tokens.insert(alone.branches[0].tokens.begin(), path.begin() + params.prompt.size(),
                                      path.end());
      std::vector<int32_t> own = Run().serve(alone).at(0).first;
      own.erase(own.begin(), own.begin() + static_cast<int64_t>(path.size() - params.prompt.size()));
      CHECK(own == answers.at(id).first);
    }
  }
}

TEST_CASE("answers are the same whatever is preempted, however few branches run at once") {
  int64_t preemptions = 0;
  for (uint32_t seed = 0; seed < 40; ++seed) {
    const RequestParams params = request(seed);
    const Answers expected = Run().serve(params);
    RequestParams longer = params;
    longer.max_tokens = 30;
    // No more than its longest path.
    const auto blocks = static_cast<int32_t>((params.prompt.size() + 30 + 15) / 16 + 2);
    Run tight(blocks);
    CHECK(tight.serve(longer) == Run().serve(longer));
    preemptions += tight.decoder.stats().preemptions;
    CHECK(Run(256, {kFork, kChild, {kEos}}, 1).serve(params) == expected);
  }
  CHECK(preemptions > 0);
}

TEST_CASE("a request that moves goes on with the same branches") {
  for (uint32_t seed = 0; seed < 40; ++seed) {
    const RequestParams params = request(seed);
    const Answers expected = Run().serve(params);
    for (int steps = 1; steps < 6; ++steps) {
      Answers begun = Run().serve(params, steps);
      RequestParams moved = params;
      for (RestoredBranch& branch : moved.branches)
        std::tie(branch.tokens, branch.ended) = begun.at(branch.id);
      CHECK(Run().serve(moved) == expected);
    }
  }
}

TEST_CASE("drafts do not change an answer") {
  int64_t drafted = 0;
  for (uint32_t seed = 0; seed < 40; ++seed) {
    RequestParams params = request(seed);
    params.prompt = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    for (RestoredBranch& branch : params.branches)
      if (branch.parent >= 0) branch.fork_position = branch.parent == 0 ? 20 : 21;
    params.speculation = Speculation::off;
    const Answers expected = Run().serve(params);
    params.speculation = Speculation::ngram;
    Run drafting;
    CHECK(drafting.serve(params) == expected);
    drafted += drafting.decoder.stats().drafted_by_ngrams;
  }
  CHECK(drafted > 0);
}

TEST_CASE("branches at one place draw different numbers") {
  int different = 0;
  for (uint32_t seed = 0; seed < 40; ++seed) {
    const Answers answers = Run().serve(request(seed));
    different += answers.at(4).first != answers.at(5).first ? 1 : 0;
  }
  CHECK(different > 30);
}

TEST_CASE("limits count the tokens that are given") {
  for (int32_t max_tokens = 11; max_tokens < 40; ++max_tokens) {
    RequestParams params = request(1);
    params.max_tokens = max_tokens;
    const Answers answers = Run().serve(params);
    size_t tokens = 0;
    bool cut = false;
    for (const auto& [id, branch] : answers) {
      tokens += branch.first.size();
      cut = cut || branch.second == FinishReason::length;
    }
    CHECK(tokens <= static_cast<size_t>(max_tokens));
    CHECK(cut == (tokens == static_cast<size_t>(max_tokens)));
  }
  RequestParams params = request(1);
  params.max_tokens = 9;  // as many as are given
  CHECK_THROWS_AS(Run().decoder.submit(params), Error);
  params.max_tokens = 100;
  params.max_branch_tokens = 3;
  CHECK_NOTHROW(Run().decoder.submit(params));
  params.max_depth = 2;
  CHECK_THROWS_AS(Run().decoder.submit(params), Error);
}

TEST_CASE("without a grammar, forks have tokens") {
  RequestParams params = request(1);
  params.grammar = nullptr;
  CHECK_THROWS_AS(Run().decoder.submit(params), Error);
}
