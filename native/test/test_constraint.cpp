// A grammar of the answer: masks, ends, limits, preemption, restored requests and drafts, with a grammar of
// the test.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <vector>

#include "common/error.h"
#include "common/side_thread.h"
#include "core/decoder.h"
#include "fake_model.h"
#include "transcript.h"

using namespace apar;

namespace {

constexpr int32_t kVocab = 43, kFork = 40, kChild = 41, kEos = 42;

// Every token but the first is at least as large as the one before it, and the answer is complete when a
// token is repeated.
class Rising final : public Grammar {
 public:
  class Walk final : public Matcher {
   public:
    explicit Walk(std::atomic<int>& fills) : fills_(fills) {}
    void fill(std::span<int32_t> mask) override {
      ++fills_;
      std::fill(mask.begin(), mask.end(), 0);
      const auto allow = [&](int32_t token) {
        mask[static_cast<size_t>(token) / 32] |= static_cast<int32_t>(uint32_t{1} << token % 32);
      };
      if (complete_) return allow(kEos);
      for (int32_t token = last_; token < kFork; ++token) allow(token);
    }
    bool accept(int32_t token) override {
      if (complete_ || token < last_ || token >= kFork) return false;
      complete_ = token == last_ && started_;
      started_ = true;
      last_ = token;
      return true;
    }

   private:
    std::atomic<int>& fills_;
    int32_t last_ = 0;
    bool started_ = false, complete_ = false;
  };

  std::unique_ptr<Matcher> matcher() const override { return std::make_unique<Walk>(fills); }
  mutable std::atomic<int> fills = 0;
};

class Nothing final : public Grammar {
  class Walk final : public Matcher {
    void fill(std::span<int32_t>) override { throw std::runtime_error("a failure of the library"); }
    bool accept(int32_t) override { return false; }
  };

 public:
  std::unique_ptr<Matcher> matcher() const override { return std::make_unique<Walk>(); }
};

struct Rig {
  explicit Rig(int32_t blocks = 128, SideThread* beside = nullptr)
      : model(kVocab, 256, blocks, 64), decoder(model, config(beside)) {}

  static DecoderConfig config(SideThread* beside) {
    DecoderConfig config;
    config.tokens = {kFork, kChild, {kEos}};
    config.max_step_tokens = 64;
    config.max_branches = 16;
    config.beside = beside;
    return config;
  }

  std::vector<Transcript> serve(const std::vector<RequestParams>& requests) {
    std::vector<Transcript> transcripts;
    std::vector<Event> events;
    for (const RequestParams& params : requests) {
      transcripts.emplace_back(params.prompt);
      decoder.submit(params);
    }
    while (decoder.step(events)) decoder.check_integrity();
    for (const Event& event : events)
      REQUIRE(transcripts[static_cast<size_t>(event.request) - 1].apply(event) == "");
    return transcripts;
  }

  FakeModel model;
  Decoder decoder;
};

RequestParams request(int32_t id, const std::shared_ptr<const Grammar>& grammar) {
  RequestParams params;
  params.id = id;
  params.prompt = {1, 2, id % 30, 5};
  params.max_tokens = 100;
  params.grammar = grammar;
  params.sampling.temperature = 1.0f;
  params.sampling.seed = static_cast<uint32_t>(id);
  return params;
}

std::vector<int32_t> answer(const Transcript& transcript) {
  const auto& root = transcript.branches.at(kRootBranch);
  return {root.path.begin() + static_cast<int64_t>(root.own_from), root.path.end()};
}

bool fits(const std::vector<int32_t>& tokens) {
  if (tokens.size() < 2 || !std::is_sorted(tokens.begin(), tokens.end())) return false;
  return std::adjacent_find(tokens.begin(), tokens.end()) == tokens.end() - 2;
}

}  // namespace

TEST_CASE("answers match the grammar, beside others that have none, and end where it is complete") {
  SideThread beside;
  for (SideThread* side : {static_cast<SideThread*>(nullptr), &beside}) {
    Rig rig(128, side);
    const auto rising = std::make_shared<Rising>();
    std::vector<RequestParams> requests;
    for (int32_t id = 1; id <= 12; ++id) requests.push_back(request(id, id % 3 == 0 ? nullptr : rising));
    const auto transcripts = rig.serve(requests);
    for (size_t i = 0; i < requests.size(); ++i) {
      if (requests[i].grammar == nullptr) continue;
      CHECK(fits(answer(transcripts[i])));
      CHECK(transcripts[i].branches.at(kRootBranch).reason == FinishReason::stop);
    }
    CHECK(rising->fills > 24);
  }
}

TEST_CASE("an answer is the same whatever is preempted") {
  const auto rising = std::make_shared<Rising>();
  std::vector<RequestParams> requests;
  for (int32_t id = 1; id <= 12; ++id) {
    requests.push_back(request(id, rising));
    requests.back().prompt.resize(40, id);
    requests.back().logit_bias = {{39, -20.0f}, {38, -20.0f}};
  }
  Rig roomy(512), tight(14);
  const auto expected = roomy.serve(requests), transcripts = tight.serve(requests);
  CHECK(tight.decoder.stats().preemptions > 0);
  for (size_t i = 0; i < requests.size(); ++i) CHECK(answer(transcripts[i]) == answer(expected[i]));
}

TEST_CASE("a limit ends an answer that is not complete") {
  RequestParams params = request(1, std::make_shared<Rising>());
  params.max_tokens = 1;
  Rig rig;
  const auto transcripts = rig.serve({params});
  CHECK(answer(transcripts[0]).size() == 1);
  CHECK(transcripts[0].branches.at(kRootBranch).reason == FinishReason::length);
}

TEST_CASE("a complete answer ends before min_tokens") {
  RequestParams params = request(1, std::make_shared<Rising>());
  params.min_tokens = 90;
  Rig rig;
  const auto transcripts = rig.serve({params});
  CHECK(fits(answer(transcripts[0])));
  CHECK(transcripts[0].branches.at(kRootBranch).reason == FinishReason::stop);
}

TEST_CASE("a restored request goes on with the rest of the same answer") {
  const auto rising = std::make_shared<Rising>();
  Rig rig;
  const std::vector<int32_t> whole = answer(rig.serve({request(1, rising)})[0]);
  REQUIRE(whole.size() >= 2);
  for (size_t kept = 1; kept < whole.size(); ++kept) {
    RequestParams params = request(1, rising);
    RestoredBranch root;
    root.tokens.assign(whole.begin(), whole.begin() + static_cast<int64_t>(kept));
    params.branches = {root};
    Rig other;
    std::vector<Event> events;
    other.decoder.submit(params);
    while (other.decoder.step(events)) {
    }
    std::vector<int32_t> tokens = root.tokens;
    for (const Event& event : events)
      if (event.kind == EventKind::token) tokens.push_back(event.a);
    CHECK(tokens == whole);
  }
}

TEST_CASE("drafts do not change an answer") {
  const auto rising = std::make_shared<Rising>();
  for (int32_t id = 1; id <= 8; ++id) {
    RequestParams params = request(id, rising);
    params.prompt = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, id % 9};
    params.id = 1;
    params.speculation = Speculation::off;
    Rig plain, drafting;
    const auto expected = answer(plain.serve({params})[0]);
    params.speculation = Speculation::ngram;
    CHECK(answer(drafting.serve({params})[0]) == expected);
  }
}

TEST_CASE("a grammar that fails ends its own request only") {
  Rig rig;
  std::vector<RequestParams> requests = {request(1, std::make_shared<Nothing>()),
                                         request(2, std::make_shared<Rising>())};
  const auto transcripts = rig.serve(requests);
  CHECK(transcripts[0].branches.at(kRootBranch).reason == FinishReason::unmatched);
  CHECK(fits(answer(transcripts[1])));
}

TEST_CASE("a grammar excludes an answer without end") {
  Rig rig;
  RequestParams params = request(1, std::make_shared<Rising>());
  params.ignore_eos = true;
  CHECK_THROWS_AS(rig.decoder.submit(params), Error);
}

TEST_CASE("a side thread runs its work, and passes on what it throws") {
  SideThread thread;
  int sum = 0;
  for (int i = 1; i <= 100; ++i) {
    thread.begin([&sum, i] { sum += i; });
    thread.finish();
  }
  CHECK(sum == 5050);
  thread.begin([] { throw std::runtime_error("no"); });
  CHECK_THROWS_WITH(thread.finish(), "no");
  thread.begin([&sum] { sum = 1; });
  thread.finish();
  CHECK(sum == 1);
}
