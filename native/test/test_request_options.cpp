// Request and decoder options: branch policy, token limits, logit bias, penalties, logprobs, watermark.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "common/error.h"
#include "core/decoder.h"
#include "fake_model.h"
#include "transcript.h"

using namespace apar;

namespace {

constexpr int32_t kVocab = 12, kFork = 9, kChild = 10, kEos = 11;

struct Rig {
  explicit Rig(PolicyKind policy = PolicyKind::eager, int32_t branches = 8)
      : model(kVocab, 256, 128, 64), decoder(model, config(policy, branches)) {}

  static DecoderConfig config(PolicyKind policy, int32_t branches) {
    DecoderConfig config;
    config.tokens = {kFork, kChild, {kEos}};
    config.max_step_tokens = 64;
    config.max_branches = branches;
    config.policy = policy;
    return config;
  }

  Transcript serve(RequestParams params) {
    Transcript transcript(params.prompt);
    std::vector<Event> events;
    decoder.submit(params);
    while (decoder.step(events)) {
      decoder.check_integrity();
      max_live = std::max(max_live, decoder.stats().live_branches);
    }
    for (const Event& event : events) REQUIRE(transcript.apply(event) == "");
    return transcript;
  }

  FakeModel model;
  Decoder decoder;
  int32_t max_live = 0;
};

RequestParams request(int32_t seed = 1) {
  RequestParams params;
  params.id = 1;
  params.prompt = {1, 2, seed % 9, seed / 9 % 9};
  params.max_tokens = 200;
  params.max_branches = 64;
  params.max_depth = 4;
  return params;
}

}  // namespace

TEST_CASE("eager lets children wait, capped continues serially when the batch is full, serial never forks") {
  int32_t eager_max_live = 0;
  int64_t refused = 0;
  for (int32_t seed = 0; seed < 40; ++seed) {
    Rig eager(PolicyKind::eager, 2), capped(PolicyKind::capped, 2), serial(PolicyKind::serial, 2);
    eager.serve(request(seed));
    capped.serve(request(seed));
    const Transcript single = serial.serve(request(seed));
    eager_max_live = std::max(eager_max_live, eager.max_live);
    CHECK(capped.max_live <= 2);
    CHECK(single.branches.size() == 1);
    CHECK(serial.decoder.stats().forks == 0);
    refused += serial.decoder.stats().forks_refused;
  }
  CHECK(eager_max_live > 2);
  CHECK(refused > 10);
}

TEST_CASE("max_branch_tokens ends only the branch that reaches it") {
  int limited = 0;
  for (int32_t seed = 0; seed < 40; ++seed) {
    Rig rig;
    RequestParams params = request(seed);
    params.max_branch_tokens = 12;
    const Transcript transcript = rig.serve(params);
    for (const auto& [id, branch] : transcript.branches) {
      CHECK(branch.path.size() - branch.own_from <= 12);
      limited += branch.reason == FinishReason::length;
    }
  }
  CHECK(limited > 10);
}

TEST_CASE("logit bias can force a token and exclude a token") {
  Rig rig;
  RequestParams params = request();
  params.max_tokens = 20;
  params.logit_bias = {{3, 100.0f}};
  const Transcript forced = rig.serve(params);
  CHECK(std::count(forced.branches.at(0).path.begin() + 4, forced.branches.at(0).path.end(), 3) == 20);
  params.logit_bias = {{3, -100.0f}, {kEos, -100.0f}};
  const Transcript excluded = rig.serve(params);
  for (const auto& [id, branch] : excluded.branches) {
    CHECK(std::count(branch.path.begin() + 4, branch.path.end(), 3) == 0);
  }
  params.logit_bias = {{kVocab, 1.0f}};
  CHECK_THROWS_AS(rig.decoder.submit(params), Error);
  params.logit_bias = {{1, INFINITY}};
  CHECK_THROWS_AS(rig.decoder.submit(params), Error);
}

TEST_CASE("with a large presence penalty no branch repeats a token of its path") {
  int32_t repeats_without = 0, branches = 0;
  for (int32_t seed = 0; seed < 40; ++seed) {
    for (const float penalty : {0.0f, 1000.0f}) {
      Rig rig;
      RequestParams params = request(seed);
      params.max_tokens = 40;
      params.sampling.presence_penalty = penalty;
      const Transcript transcript = rig.serve(params);
      for (const auto& [id, branch] : transcript.branches) {
        std::map<int32_t, int> counts;
        int repeats = 0;
        for (size_t at = params.prompt.size(); at < branch.path.size(); ++at) {
          const int32_t token = branch.path[at];
          // Penalties leave control tokens alone.
          if (token != kChild && token != kFork) repeats += counts[token]++ > 0;
        }
        if (penalty == 0.0f) {
          repeats_without += repeats;
        } else if (branch.path.size() - params.prompt.size() <= 9) {
          ++branches;
          CHECK(repeats == 0);
        }
      }
    }
  }
  CHECK(repeats_without > 50);
  CHECK(branches > 20);
  Rig rig;
  RequestParams params = request();
  params.sampling.frequency_penalty = NAN;
  CHECK_THROWS_AS(rig.decoder.submit(params), Error);
}

TEST_CASE("logprobs come from the model's logits: the sampled token first, then the most likely ones") {
  Rig rig;
  RequestParams params = request();
  params.max_tokens = 30;
  params.max_depth = 1;
  params.logprobs = 3;
  const Transcript transcript = rig.serve(params);
  const auto& path = transcript.branches.at(0).path;
  REQUIRE(transcript.logprobs.size() == 4 * (path.size() - params.prompt.size()));
  for (size_t at = params.prompt.size(), row = 0; at < path.size(); ++at, row += 4) {
    std::vector<float> logits(kVocab);
    FakeModel::fill(std::span(path).first(at), logits);
    double sum = 0;
    for (const float logit : logits) sum += std::exp(logit);
    const auto* chosen = &transcript.logprobs[row];
    CHECK(chosen->first == path[at]);
    CHECK(chosen->second ==
          doctest::Approx(logits[static_cast<size_t>(path[at])] - std::log(sum)).epsilon(1e-4));
    CHECK(chosen[1].second >= chosen[2].second);
    CHECK(chosen[2].second >= chosen[3].second);
    CHECK(chosen[1].first == std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
  params.logprobs = 21;
  CHECK_THROWS_AS(rig.decoder.submit(params), Error);
}

TEST_CASE("the watermark keeps blocks free for running requests") {
  DecoderConfig config = Rig::config(PolicyKind::eager, 8);
  config.watermark = 0.5f;
  FakeModel model(kVocab, 256, 16, 64);
  Decoder decoder(model, config);
  for (int32_t id = 1; id <= 3; ++id) {
    RequestParams params = request();
    params.id = id;
    params.prompt.assign(70, id);  // 5 blocks: without a watermark 3 requests would fit
    params.max_tokens = 5;
    params.max_depth = 1;
    decoder.submit(params);
  }
  std::vector<Event> events;
  decoder.step(events);
  CHECK(decoder.stats().running_requests == 1);
  config.watermark = 1.0f;
  CHECK_THROWS_AS(Decoder(model, config), Error);
}
