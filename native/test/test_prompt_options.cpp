// What a request says of its prompt and of its end: log-probabilities of the prompt, tokens before the end,
// end tokens.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "common/error.h"
#include "core/decoder.h"
#include "fake_model.h"
#include "transcript.h"

using namespace apar;

namespace {

constexpr int32_t kVocab = 12, kFork = 9, kChild = 10, kEos = 11;

DecoderConfig config(int32_t step_tokens, int32_t branches) {
  DecoderConfig config;
  config.tokens = {kFork, kChild, {kEos}};
  config.max_step_tokens = step_tokens;
  config.max_branches = branches;
  return config;
}

RequestParams request(int32_t id, std::vector<int32_t> prompt) {
  RequestParams params;
  params.id = id;
  params.prompt = std::move(prompt);
  params.max_tokens = 60;
  return params;
}

std::vector<int32_t> long_prompt(int32_t length, int32_t seed) {
  std::vector<int32_t> prompt;
  for (int32_t i = 0; i < length; ++i) prompt.push_back((i * i + seed * 7 + i / 3) % 9);
  return prompt;
}

// Serves the requests together.
std::map<int32_t, Transcript> serve(Decoder& decoder, const std::vector<RequestParams>& all) {
  std::map<int32_t, Transcript> transcripts;
  for (const RequestParams& params : all) {
    transcripts.emplace(params.id, Transcript(params.prompt));
    decoder.submit(params);
  }
  std::vector<Event> events;
  while (decoder.step(events)) decoder.check_integrity();
  for (const Event& event : events) REQUIRE(transcripts.at(event.request).apply(event) == "");
  return transcripts;
}

// Each position's log-probabilities must be those of a request that ends before it.
void check_scores(const Transcript& scored, const std::vector<int32_t>& prompt, int32_t top) {
  REQUIRE(scored.prompt_logprobs.size() == prompt.size() - 1);
  for (size_t i = 1; i < prompt.size(); i += 7) {
    FakeModel model(kVocab, 1024, 128, 64);
    Decoder decoder(model, config(64, 4));
    RequestParams before = request(1, {prompt.begin(), prompt.begin() + static_cast<int64_t>(i)});
    before.max_tokens = 1;
    before.logprobs = kVocab;
    const Transcript reference = serve(decoder, {before}).at(1);
    const auto& row = scored.prompt_logprobs.at(static_cast<int32_t>(i));
    REQUIRE(row.size() == static_cast<size_t>(top) + 1);
    CHECK(row[0].first == prompt[i]);
    for (const auto& [token, logprob] : row) {
      bool found = false;
      // A first token that ends the branch has no rows.
      for (const auto& [id, expected] : reference.logprobs) {
        if (id != token) continue;
        found = true;
        CHECK(logprob == expected);
      }
      CHECK((found || reference.logprobs.empty()));
    }
  }
}

}  // namespace

TEST_CASE("log-probabilities of a prompt: in chunks, from the prefix cache, among other requests") {
  for (const int32_t step_tokens : {8, 64, 128}) {
    FakeModel model(kVocab, 1024, 128, 128);
    Decoder decoder(model, config(step_tokens, 4));
    const std::vector<int32_t> prompt = long_prompt(150, step_tokens);
    RequestParams plain = request(1, prompt), scored = request(2, prompt),
                  other = request(3, long_prompt(90, 3));
    scored.prompt_logprobs = 2;
    other.prompt_logprobs = 0;
    // Together with a request that computes the same prompt, and with another one.
    const auto first = serve(decoder, {plain, scored, other});
    check_scores(first.at(2), prompt, 2);
    check_scores(first.at(3), other.prompt, 0);
    CHECK(first.at(1).branches.at(0).path == first.at(2).branches.at(0).path);
    CHECK(first.at(1).prompt_logprobs.empty());
    // The whole prompt is in the prefix cache now.
    const auto second = serve(decoder, {scored});
    CHECK(second.at(2).prompt_logprobs == first.at(2).prompt_logprobs);
    CHECK(decoder.stats().cached_prompt_tokens > 0);
  }
}

TEST_CASE("log-probabilities of prompts in a pool that cannot hold them all") {
  FakeModel model(kVocab, 1024, 16, 64);
  Decoder decoder(model, config(64, 4));
  std::vector<RequestParams> all;
  for (int32_t id = 1; id <= 4; ++id) {
    all.push_back(request(id, long_prompt(130, id)));
    all.back().prompt_logprobs = 1;
  }
  const auto transcripts = serve(decoder, all);
  for (const RequestParams& params : all) check_scores(transcripts.at(params.id), params.prompt, 1);
}

TEST_CASE("who scores a prompt and its answer has log-probabilities of the token that ends it, too") {
  int32_t ended = 0;
  for (int32_t seed = 0; seed < 40; ++seed) {
    FakeModel model(kVocab, 1024, 128, 64);
    Decoder decoder(model, config(64, 4));
    RequestParams params = request(1, long_prompt(20, seed));
    params.max_tokens = 1;
    params.max_depth = 1;
    params.logprobs = 2;
    if (seed % 2 == 1) params.logit_bias = {{kEos, 100.0f}};
    const Transcript plain = serve(decoder, {params}).at(1);
    params.prompt_logprobs = 0;
    const Transcript scored = serve(decoder, {params}).at(1);
    CHECK(plain.branches.at(0).end_token == -1);
    CHECK(plain.branches.at(0).path == scored.branches.at(0).path);
    REQUIRE(scored.logprobs.size() == 3);
    std::vector<float> logits(kVocab);
    FakeModel::fill(params.prompt, logits);
    double sum = 0;
    for (const float logit : logits) sum += std::exp(logit);
    const auto [token, logprob] = scored.logprobs[0];
    CHECK(logprob == doctest::Approx(logits[static_cast<size_t>(token)] - std::log(sum)).epsilon(1e-4));
    if (scored.tokens > 0) {
      CHECK(plain.logprobs == scored.logprobs);
      CHECK(scored.branches.at(0).end_token == -1);
    } else {
      ++ended;
      CHECK(plain.logprobs.empty());
      CHECK(scored.branches.at(0).end_token == token);
    }
  }
  CHECK(ended >= 20);
}

TEST_CASE("a prompt of one token has no log-probabilities") {
  FakeModel model(kVocab, 256, 64, 64);
  Decoder decoder(model, config(64, 4));
  RequestParams params = request(1, {3});
  params.prompt_logprobs = 1;
  CHECK(serve(decoder, {params}).at(1).prompt_logprobs.empty());
}

TEST_CASE("min_tokens masks what would end the root, ignore_eos makes its end token one like others") {
  int32_t ended_early = 0, stopped = 0;
  for (int32_t seed = 0; seed < 30; ++seed) {
    const auto root_of = [&](auto&& change) {
      FakeModel model(kVocab, 256, 128, 64);
      Decoder decoder(model, config(64, 4));
      RequestParams params = request(1, {1, 2, seed % 9, seed / 9});
      change(params);
      return serve(decoder, {params}).at(1);
    };
    const auto length = [](const Transcript& transcript) {
      return transcript.branches.at(0).path.size() - 4;
    };
    const Transcript free = root_of([](RequestParams&) {});
    ended_early += length(free) < 40 ? 1 : 0;
    const Transcript longer = root_of([](RequestParams& params) { params.min_tokens = 40; });
    CHECK(length(longer) >= 40);
    const auto& path = longer.branches.at(0).path;
    CHECK(std::find(path.begin(), path.end(), kEos) == path.end());

    const Transcript endless = root_of([](RequestParams& params) { params.ignore_eos = true; });
    CHECK(length(endless) == 60);
    CHECK(endless.finish == FinishReason::length);
    CHECK(std::equal(free.branches.at(0).path.begin(), free.branches.at(0).path.end(),
                     endless.branches.at(0).path.begin()));

    const Transcript asked = root_of([](RequestParams& params) { params.stop_tokens = {3, 4}; });
    const int32_t by = asked.branches.at(0).ended_by;
    stopped += by == 3 || by == 4 ? 1 : 0;
    CHECK((by == 3 || by == 4 || by == kEos || by == -1));
    CHECK(free.branches.at(0).ended_by == (length(free) < 60 ? kEos : -1));
  }
  CHECK(ended_early > 10);
  CHECK(stopped > 10);
}

TEST_CASE("options of the prompt and the end that cannot be served are refused") {
  FakeModel model(kVocab, 256, 64, 64);
  Decoder decoder(model, config(64, 4));
  const auto refused = [&](auto&& change) {
    RequestParams params = request(1, {1, 2});
    change(params);
    CHECK_THROWS_AS(decoder.submit(params), Error);
  };
  refused([](RequestParams& params) { params.prompt_logprobs = 21; });
  refused([](RequestParams& params) { params.min_tokens = 61; });
  refused([](RequestParams& params) { params.stop_tokens = {kVocab}; });
}
