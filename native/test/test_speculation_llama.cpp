// Speculative decoding on a real forward pass: answers are the same with n-grams as without.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>

#include "core/decoder.h"
#include "model/llama.h"
#include "test/random_model.h"

using namespace apar;

namespace {

using Answers = std::map<std::pair<int32_t, int32_t>, std::vector<std::vector<int32_t>>>;

struct Outcome {
  Answers answers;
  DecoderStats stats;
};

Outcome serve(Model& model, const ControlTokens& tokens, uint32_t seed, Speculation speculation) {
  double now = 0;
  DecoderConfig config;
  config.tokens = tokens;
  config.max_step_tokens = 48;
  config.max_branches = 6;
  config.clock = [&now] { return now += 1; };  // all steps take as long
  config.speculation = speculation;
  Decoder decoder(model, config);
  std::mt19937 random(seed);
  for (int32_t id = 1; id <= 4; ++id) {
    RequestParams params;
    params.id = id;
    params.prompt.resize(10 + random() % 20);
    for (int32_t& token : params.prompt) token = static_cast<int32_t>(2 + random() % 40);
    params.max_tokens = 80;
    params.max_branches = 4;
    params.max_depth = 2;
    params.sampling.seed = seed;
    if (id % 2 == 0) {
      params.sampling.temperature = 0.05f;
      params.logprobs = 1;
    }
    decoder.submit(params);
  }
  Outcome outcome;
  std::vector<Event> events;
  while (decoder.step(events)) decoder.check_integrity();
  for (const Event& event : events) {
    if (event.kind == EventKind::speculation) continue;
    const int32_t b = event.kind == EventKind::finish ? 0 : event.b;
    outcome.answers[{event.request, event.branch}].push_back({static_cast<int32_t>(event.kind), event.a, b});
  }
  outcome.stats = decoder.stats();
  return outcome;
}

}  // namespace

TEST_CASE("answers of a random model are the same with and without candidates, log-probabilities too") {
  int64_t accepted = 0, drafted = 0, forks = 0;
  for (uint32_t seed = 1; seed <= 4; ++seed) {
    const test::RandomModel checkpoint = test::make_random_model(test::small_config(), seed);
    const auto open = [&](int32_t blocks) {
      return open_llama(checkpoint.config, checkpoint.weights, WeightFormat::f32, blocks, 64, 2);
    };
    // [Fork] is a token that random weights often give.
    const auto probe = open(64);
    const Outcome first = serve(*probe, {-1, -1, {1}}, seed, Speculation::off);
    std::map<int32_t, int32_t> counts;
    for (const auto& [at, events] : first.answers)
      for (const auto& event : events)
        if (event[0] == static_cast<int32_t>(EventKind::token) && event[1] > 1) ++counts[event[1]];
    const auto frequent = std::max_element(counts.begin(), counts.end(),
                                           [](const auto& a, const auto& b) { return a.second < b.second; });
    const ControlTokens tokens = {frequent->first, 0, {1}};
    for (const int32_t blocks : {64, 10}) {
      CAPTURE(seed);
      CAPTURE(blocks);
      const auto plain_model = open(blocks), model = open(blocks);
      const Outcome plain = serve(*plain_model, tokens, seed, Speculation::off);
      const Outcome drafts = serve(*model, tokens, seed, Speculation::automatic);
      CHECK(plain.answers == drafts.answers);
      drafted += drafts.stats.drafted_by_ngrams;
      accepted += drafts.stats.accepted_of_ngrams;
      forks += drafts.stats.forks;
    }
  }
  MESSAGE(drafted << " drafted, " << accepted << " accepted, " << forks << " forks");
  CHECK(drafted > 200);
  CHECK(accepted > 50);
  CHECK(forks > 10);
}
