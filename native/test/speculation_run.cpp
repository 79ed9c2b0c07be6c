#include "test/speculation_run.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>

#include "test/staggered.h"
#include "test/transcript.h"

namespace apar::test {
namespace {

// [Fork] is one of the tokens that the model gives, preferably one of twelve.
ControlTokens control_tokens(KnowingModel& model, const std::vector<RequestParams>& requests,
                             const std::vector<int32_t>& eos) {
  const Served probe = serve(model, {{-1, -1, eos}}, requests);
  std::vector<int32_t> counts(static_cast<size_t>(model.config().vocab_size), 0);
  int32_t all = 0;
  for (const auto& [at, events] : probe.answers)
    for (const auto& event : events) {
      if (event[0] != static_cast<int32_t>(EventKind::token)) continue;
      ++counts[static_cast<size_t>(event[1])];
      ++all;
    }
  int32_t fork = 2;
  const auto distance = [&](int32_t token) {
    const int32_t count = counts[static_cast<size_t>(token)];
    return count == 0 ? 12 * all : std::abs(12 * count - all);
  };
  for (int32_t token = 3; token < model.config().vocab_size; ++token)
    if (distance(token) < distance(fork)) fork = token;
  return {fork, 0, eos};
}

}  // namespace

Served serve(KnowingModel& model, const ServeSettings& settings, const std::vector<RequestParams>& requests) {
  DecoderConfig config;
  config.tokens = settings.tokens;
  config.max_step_tokens = settings.step_tokens;
  config.max_branches = settings.branches;
  config.prefix_cache = settings.prefix_cache;
  config.clock = model.clock();
  config.speculation = settings.speculation;
  Decoder decoder(model, config);
  Served served;
  std::map<int32_t, Transcript> transcripts;
  for (const RequestParams& request : requests) transcripts.emplace(request.id, Transcript(request.prompt));
  for (const Event& event : run_staggered(decoder, requests, 20000)) {
    REQUIRE(transcripts.at(event.request).apply(event) == "");
    if (event.kind == EventKind::speculation) {
      if (event.branch % 256 != static_cast<int32_t>(DraftKind::heads)) continue;
      const auto depth = static_cast<size_t>(event.branch / 256);
      if (served.by_depth.size() <= depth) served.by_depth.resize(depth + 1);
      served.by_depth[depth].drafted += event.a;
      served.by_depth[depth].accepted += event.b;
      continue;
    }
    const int32_t b = event.kind == EventKind::finish ? 0 : event.b;
    served.answers[{event.request, event.branch}].push_back({static_cast<int32_t>(event.kind), event.a, b});
  }
  for (const auto& [id, transcript] : transcripts)
    for (const auto& [branch, text] : transcript.branches) served.texts.push_back(text.path);
  served.stats = decoder.stats();
  CHECK(served.stats.free_blocks == model.num_blocks());
  return served;
}

std::vector<RequestParams> random_requests(std::mt19937& random, const RequestMix& mix, int32_t vocab) {
  const auto below = [&](int32_t end) { return static_cast<int32_t>(random() % static_cast<uint32_t>(end)); };
  std::vector<RequestParams> requests(static_cast<size_t>(mix.count));
  for (RequestParams& params : requests) {
    params.id = 1 + static_cast<int32_t>(&params - requests.data());
    std::mt19937 family(random() % 3);
    params.prompt.resize(static_cast<size_t>(8 + below(33)));
    for (int32_t& token : params.prompt)
      token = 2 + static_cast<int32_t>(family() % static_cast<uint32_t>(vocab - 2));
    params.max_tokens = 10 + below(mix.max_tokens - 9);
    params.max_branches = (mix.all_fork ? 3 : 1) + below(6);
    params.max_depth = mix.all_fork ? 3 : 1 + below(3);
    if (below(2) == 0) {
      params.sampling.temperature = 0.1f + 0.1f * static_cast<float>(below(10));
      params.sampling.seed = random();
      if (below(3) == 0) params.sampling.top_p = 0.8f;
      if (below(3) == 0) params.sampling.top_k = 5;
    }
    if (mix.on_host) {
      if (below(4) == 0) params.sampling.repetition_penalty = 1.1f;
      if (below(3) == 0) params.logprobs = below(3);
      if (below(6) == 0) params.logit_bias = {{3, 1.5f}};
    }
    if (below(6) == 0 && vocab > 5) params.stop_tokens = {5};
    if (below(4) == 0) params.max_branch_tokens = 5 + below(30);
    if (below(8) == 0) params.speculation = Speculation::ngram;
  }
  return requests;
}

void check_speculation(const SpeculationCase& tested, Speculated& total) {
  std::mt19937 random(tested.seed);
  KnowingModel probe(tested.open(64));
  const auto requests = random_requests(random, tested.mix, probe.config().vocab_size);
  ServeSettings settings{control_tokens(probe, requests, tested.eos)};
  for (const int32_t blocks : tested.pools)
    for (const bool prefix_cache : tested.prefix_cache) {
      CAPTURE(tested.seed);
      CAPTURE(blocks);
      CAPTURE(prefix_cache);
      settings.prefix_cache = prefix_cache;
      settings.speculation = Speculation::off;
      KnowingModel plain_model(tested.open(blocks));
      const Served plain = serve(plain_model, settings, requests);
      CHECK(plain.by_depth.empty());
      KnowingModel model(tested.open(blocks), tested.heads == HeadsOf::test ? plain.texts : Texts{},
                         tested.seed);
      settings.speculation = Speculation::automatic;
      const Served drafts = serve(model, settings, requests);
      CHECK(plain.answers == drafts.answers);
      for (size_t depth = 0; depth < drafts.by_depth.size(); ++depth) {
        total.drafted += drafts.by_depth[depth].drafted;
        total.accepted += drafts.by_depth[depth].accepted;
        if (depth >= 2) total.accepted_deep += drafts.by_depth[depth].accepted;
      }
      total.copied += model.copied();
      total.drawn_steps += model.drawn();
      total.forks += drafts.stats.forks;
      total.preemptions += drafts.stats.preemptions;
    }
}

}  // namespace apar::test
