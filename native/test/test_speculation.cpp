// Speculative decoding never changes an answer: random requests with and without it, on random settings.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include "drafting_model.h"
#include "staggered.h"
#include "transcript.h"

using namespace apar;

namespace {

constexpr int32_t kVocab = 12, kFork = 9, kChild = 10, kEos = 11;
constexpr int32_t kContext = 160;

// The events of each request's branches in order; those of several branches have no order among them. Without
// the tokens that were found in the prefix cache, which depend on the load.
using Answers = std::map<std::pair<int32_t, int32_t>, std::vector<std::vector<int32_t>>>;

struct Settings {
  int32_t blocks = 64, step_tokens = 64, branches = 8, tenants = 1;
  bool prefix_cache = true, draws = false;
  Heads heads = Heads::none;
};

struct Outcome {
  Answers answers;
  DecoderStats stats;
  int32_t drafted = 0, accepted = 0, copied = 0;
};

DecoderConfig config_of(const Settings& settings, Speculation speculation) {
  DecoderConfig config;
  config.tokens = {kFork, kChild, {kEos}};
  config.max_step_tokens = settings.step_tokens;
  config.max_branches = settings.branches;
  config.prefix_cache = settings.prefix_cache;
  config.text = letters(kVocab);
  config.speculation = speculation;
  return config;
}

// Serves the requests; request i comes with step 3 * i.
Outcome serve(
    const Settings& settings, const std::vector<RequestParams>& requests, Speculation speculation,
    const std::function<double(int32_t)>& seconds = [](int32_t) { return 1.0; }) {
  DecoderConfig config = config_of(settings, speculation);
  DraftingModel model(kVocab, kContext, settings.blocks, settings.step_tokens, config.tokens, settings.heads,
                      settings.draws);
  model.seconds = seconds;
  config.clock = model.clock();
  Decoder decoder(model, config);
  Outcome outcome;
  std::map<int32_t, Transcript> transcripts;
  for (const RequestParams& request : requests) transcripts.emplace(request.id, Transcript(request.prompt));
  for (const Event& event : test::run_staggered(decoder, requests, 50000)) {
    if (requests.front().branches.empty()) REQUIRE(transcripts.at(event.request).apply(event) == "");
    if (event.kind == EventKind::speculation) {
      outcome.drafted += event.a;
      outcome.accepted += event.b;
      continue;
    }
    const int32_t b = event.kind == EventKind::finish ? 0 : event.b;
    outcome.answers[{event.request, event.branch}].push_back({static_cast<int32_t>(event.kind), event.a, b});
  }
  outcome.stats = decoder.stats();
  outcome.copied = model.copied;
  CHECK(outcome.stats.free_blocks == settings.blocks);
  CHECK(outcome.stats.drafted_by_heads + outcome.stats.drafted_by_ngrams == outcome.drafted);
  CHECK(outcome.stats.accepted_of_heads + outcome.stats.accepted_of_ngrams == outcome.accepted);
  return outcome;
}

RequestParams random_request(std::mt19937& random, int32_t id, int32_t tenants) {
  const auto one_in = [&](uint32_t n) { return random() % n == 0; };
  RequestParams params;
  params.id = id;
  std::mt19937 family(random() % 3);
  params.prompt.resize(1 + random() % 50);
  for (int32_t& token : params.prompt) token = static_cast<int32_t>(family() % 9);
  params.max_tokens = 1 + static_cast<int32_t>(random() % 90);
  params.max_branches = 1 + static_cast<int32_t>(random() % 9);
  params.max_depth = 1 + static_cast<int32_t>(random() % 3);
  if (one_in(2)) {
    params.sampling.temperature = 0.2f + static_cast<float>(random() % 10) / 4.0f;
    params.sampling.seed = random();
    if (one_in(3)) params.sampling.top_p = 0.7f;
    if (one_in(3)) params.sampling.top_k = 4;
    if (one_in(4)) params.sampling.min_p = 0.1f;
  }
  if (one_in(3)) params.sampling.repetition_penalty = 1.1f;
  if (one_in(4)) params.sampling.frequency_penalty = 0.5f;
  if (one_in(4)) params.sampling.presence_penalty = -0.5f;
  if (one_in(4)) params.logprobs = static_cast<int32_t>(random() % 3);
  if (one_in(4)) params.logit_bias = {{3, 2.0f}, {kEos, -3.0f}};
  if (one_in(4)) params.stop = {"ab", "cdc"};
  if (one_in(2)) params.stop_scope = StopScope::document;
  if (one_in(6)) params.stop_tokens = {5};
  if (one_in(4)) params.max_branch_tokens = 1 + static_cast<int32_t>(random() % 30);
  if (one_in(8)) params.speculation = Speculation::off;
  if (one_in(8)) params.speculation = Speculation::ngram;
  params.tenant.id = static_cast<int32_t>(random() % static_cast<uint32_t>(tenants));
  params.tenant.weight = static_cast<float>(1 + params.tenant.id);
  return params;
}

Settings random_settings(std::mt19937& random) {
  Settings settings;
  settings.branches = 1 + static_cast<int32_t>(random() % 10);
  settings.step_tokens = settings.branches + static_cast<int32_t>(random() % 60);
  // A request's longest path needs up to 12 blocks.
  settings.blocks = 12 + static_cast<int32_t>(random() % (random() % 2 == 0 ? 4 : 40));
  settings.tenants = 1 + static_cast<int32_t>(random() % 3);
  settings.prefix_cache = random() % 4 != 0;
  settings.draws = random() % 3 == 0;
  settings.heads = static_cast<Heads>(random() % 4);
  return settings;
}

// The model's own draws are not those of the host: requests for which a step would fall back to its logits
// are greedy then, or there are none.
void avoid_fallbacks(std::vector<RequestParams>& requests, bool greedy) {
  for (RequestParams& params : requests) {
    if (greedy) {
      params.sampling.temperature = 0;
      continue;
    }
    params.sampling.repetition_penalty = 1;
    params.sampling.frequency_penalty = params.sampling.presence_penalty = 0;
    params.logprobs = -1;
    params.logit_bias.clear();
  }
}

}  // namespace

TEST_CASE("answers are the same with and without candidates, event for event") {
  int64_t drafted[4] = {}, accepted[4] = {}, preemptions = 0, forks = 0, copied = 0;
  for (uint32_t seed = 0; seed < 160; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    const Settings settings = random_settings(random);
    std::vector<RequestParams> requests;
    for (int32_t id = 1; id <= 6; ++id) requests.push_back(random_request(random, id, settings.tenants));
    if (settings.draws) avoid_fallbacks(requests, random() % 2 == 0);
    const Outcome plain = serve(settings, requests, Speculation::off);
    const Outcome drafts = serve(settings, requests, Speculation::automatic);
    CHECK(plain.drafted == 0);
    REQUIRE(plain.answers == drafts.answers);
    const auto heads = static_cast<size_t>(settings.heads);
    drafted[heads] += drafts.drafted;
    accepted[heads] += drafts.accepted;
    preemptions += drafts.stats.preemptions;
    forks += drafts.stats.forks;
    copied += drafts.copied;
  }
  MESSAGE("drafted " << drafted[0] << " n-grams, " << drafted[1] << " right, " << drafted[2] << " wrong, "
                     << drafted[3] << " random; accepted " << accepted[0] << ", " << accepted[1] << ", "
                     << accepted[2] << ", " << accepted[3] << "; " << copied << " copies, " << preemptions
                     << " preemptions, " << forks << " forks");
  for (const int64_t count : drafted) CHECK(count > 1000);
  CHECK(accepted[0] > 100);
  CHECK(accepted[1] > 1000);
  CHECK(copied > 100);
  CHECK(preemptions > 100);
  CHECK(forks > 100);
}

TEST_CASE("right heads make steps fewer, and their rows are reported by depth right before the end") {
  Settings settings;
  settings.heads = Heads::right;
  RequestParams params;
  params.id = 1;
  params.prompt = {1, 2, 3};
  params.max_tokens = 100;
  params.logit_bias = {{kEos, -100.0f}};
  const Outcome plain = serve(settings, {params}, Speculation::off);
  const Outcome drafts = serve(settings, {params}, Speculation::heads);
  CHECK(plain.answers == drafts.answers);
  CHECK(plain.stats.steps == 100);
  CHECK(drafts.stats.steps < 45);
  CHECK(drafts.stats.generated_tokens == 100);
  CHECK(drafts.stats.accepted_of_heads >= 55);
  CHECK(drafts.stats.drafted_by_ngrams == 0);

  DecoderConfig config = config_of(settings, Speculation::automatic);
  DraftingModel model(kVocab, kContext, 64, 64, config.tokens, Heads::right, false);
  config.clock = model.clock();
  Decoder decoder(model, config);
  decoder.submit(params);
  std::vector<Event> events;
  while (decoder.step(events)) decoder.check_integrity();
  REQUIRE(events.size() > 4);
  REQUIRE(events.back().kind == EventKind::finish);
  for (int32_t depth = 0; depth < 3; ++depth) {
    const Event& event = events[events.size() - 4 + static_cast<size_t>(depth)];
    CHECK(event.kind == EventKind::speculation);
    CHECK(event.branch == 1 + 256 * depth);
    CHECK(event.a >= event.b);
    CHECK(event.b > 10);
  }
}

TEST_CASE("a request and the engine both limit what proposes candidates") {
  Settings settings;
  settings.heads = Heads::right;
  RequestParams params;
  params.id = 1;
  params.prompt = {1, 2, 1, 2, 1, 2, 1, 2};
  params.max_tokens = 60;
  params.logit_bias = {{kEos, -100.0f}, {1, 20.0f}};  // 1, 1, 1, ...
  using enum Speculation;
  struct Case {
    Speculation allowed, wanted;
    bool has_heads;
    int heads, ngrams;
  };
  for (const Case& c : {Case{automatic, automatic, true, 1, 0}, Case{automatic, automatic, false, 0, 1},
                        Case{automatic, ngram, true, 0, 1}, Case{ngram, automatic, true, 0, 1},
                        Case{automatic, heads, false, 0, 0}, Case{ngram, heads, true, 0, 0},
                        Case{heads, ngram, true, 0, 0}, Case{off, automatic, true, 0, 0},
                        Case{automatic, off, true, 0, 0}, Case{heads, automatic, true, 1, 0}}) {
    CAPTURE(static_cast<int>(c.allowed));
    CAPTURE(static_cast<int>(c.wanted));
    settings.heads = c.has_heads ? Heads::right : Heads::none;
    params.speculation = c.wanted;
    const Outcome outcome = serve(settings, {params}, c.allowed);
    CHECK((outcome.stats.drafted_by_heads > 0) == (c.heads == 1));
    CHECK((outcome.stats.drafted_by_ngrams > 0) == (c.ngrams == 1));
  }
}

TEST_CASE("a restored request continues with candidates as without") {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    Settings settings = random_settings(random);
    RequestParams params;
    params.id = 1;
    params.prompt = {1, 2, 3, 4};
    params.max_tokens = 80;
    params.max_branches = 4;
    params.max_depth = 2;
    params.sampling.temperature = seed % 2 == 0 ? 0.0f : 1.0f;
    params.branches = {{0, -1, -1, {5, 6, kFork, 7, 8, 5, 6}, FinishReason::none},
                       {1, 0, 6, {kChild, 5, 6, 7}, FinishReason::none}};
    const Outcome plain = serve(settings, {params}, Speculation::off);
    const Outcome drafts = serve(settings, {params}, Speculation::automatic);
    CHECK(plain.answers == drafts.answers);
  }
}

TEST_CASE("rows that cost as much as steps get no candidates, but a few now and then") {
  Settings settings;
  settings.heads = Heads::wrong;
  settings.blocks = 200;
  std::vector<RequestParams> requests;
  for (int32_t id = 1; id <= 8; ++id) {
    RequestParams params;
    params.id = id;
    params.prompt = {id, 2, 3};
    params.max_tokens = 150;
    params.logit_bias = {{kEos, -100.0f}};
    requests.push_back(params);
  }
  const auto dear = [](int32_t rows) { return static_cast<double>(rows); };
  const Outcome plain = serve(settings, requests, Speculation::off, dear);
  const Outcome drafts = serve(settings, requests, Speculation::automatic, dear);
  CHECK(plain.answers == drafts.answers);
  CHECK(drafts.drafted > 0);
  CHECK(drafts.drafted < 1200 / 5);
}

TEST_CASE("a step that returns logits to the host has few candidates, although the device could draw") {
  Settings settings;
  settings.blocks = 200;
  settings.step_tokens = 512;
  settings.heads = Heads::random;
  settings.draws = true;
  for (const bool logprobs : {false, true}) {
    CAPTURE(logprobs);
    const DecoderConfig base = config_of(settings, Speculation::automatic);
    DraftingModel model(kVocab, kContext, settings.blocks, settings.step_tokens, base.tokens, settings.heads,
                        settings.draws);
    DecoderConfig config = base;
    config.clock = model.clock();
    Decoder decoder(model, config);
    int32_t most_drafted = 0;
    for (int32_t id = 1; id <= 6; ++id) {
      RequestParams params;
      params.id = id;
      params.prompt = {id, 2, 3};
      params.max_tokens = 100;
      if (logprobs && id == 3) params.logprobs = 1;
      decoder.submit(params);
    }
    std::vector<Event> events;
    for (int64_t before = 0; decoder.step(events); before = decoder.stats().drafted_by_heads)
      most_drafted = std::max(most_drafted, static_cast<int32_t>(decoder.stats().drafted_by_heads - before));
    CHECK((logprobs || most_drafted > StepDrafts::kMostOnHost));
    CHECK(model.most_logit_rows <= (logprobs ? 6 + StepDrafts::kMostOnHost : 0));
    CHECK((model.most_logit_rows > 6) == logprobs);
  }
}

TEST_CASE("when accepted candidates cannot be copied, nothing of the pool is used again") {
  for (const bool prefix_cache : {true, false}) {
    Settings settings;
    settings.heads = Heads::random;
    settings.prefix_cache = prefix_cache;
    DecoderConfig config = config_of(settings, Speculation::automatic);
    DraftingModel model(kVocab, kContext, settings.blocks, settings.step_tokens, config.tokens,
                        settings.heads, false);
    config.clock = model.clock();
    std::vector<RequestParams> requests;
    for (int32_t id = 1; id <= 6; ++id) {
      std::mt19937 random(static_cast<uint32_t>(id));
      requests.push_back(random_request(random, id, 1));
      requests.back().max_tokens = 100;
      requests.back().max_branch_tokens = 0;
      requests.back().speculation = Speculation::automatic;
    }
    Decoder decoder(model, config);
    std::vector<Event> events;
    const auto run = [&] {
      for (const RequestParams& params : requests) decoder.submit(params);
      while (decoder.step(events)) decoder.check_integrity();
    };
    model.fails_to_copy = true;
    CHECK_THROWS_AS(run(), Error);
    CHECK(decoder.idle());
    decoder.check_integrity();
    CHECK(decoder.stats().free_blocks == settings.blocks);
    CHECK(decoder.stats().cached_blocks == 0);

    model.fails_to_copy = false;
    events.clear();
    run();
    Answers answers;
    for (const Event& event : events) {
      if (event.kind == EventKind::speculation) continue;
      const int32_t b = event.kind == EventKind::finish ? 0 : event.b;
      answers[{event.request, event.branch}].push_back({static_cast<int32_t>(event.kind), event.a, b});
    }
    CHECK(answers == serve(settings, requests, Speculation::off).answers);
  }
}

TEST_CASE("sampled tokens have the distribution of the model whatever was drafted") {
  constexpr int kRequests = 4000;
  const std::vector<int32_t> prompt = {1, 2, 3};
  const auto probabilities = [](std::vector<int32_t> path) {
    std::vector<float> logits(kVocab);
    FakeModel::fill(path, logits);
    logits[kChild] = logits[kFork] = -INFINITY;
    std::vector<double> p;
    double sum = 0;
    for (const float logit : logits) sum += p.emplace_back(std::exp(logit / 4.0));
    for (double& each : p) each /= sum;
    return p;
  };
  // Of the third token, the first one that was always a candidate's row.
  std::vector<double> expected(kVocab, 0);
  double reached = 0;
  const auto first = probabilities(prompt);
  for (int32_t a = 0; a < kVocab; ++a) {
    if (a == kEos) continue;
    const auto second = probabilities({1, 2, 3, a});
    for (int32_t b = 0; b < kVocab; ++b) {
      if (b == kEos) continue;
      const double path = first[static_cast<size_t>(a)] * second[static_cast<size_t>(b)];
      const auto third = probabilities({1, 2, 3, a, b});
      for (int32_t c = 0; c < kVocab; ++c)
        expected[static_cast<size_t>(c)] += path * third[static_cast<size_t>(c)];
      reached += path;
    }
  }
  Settings settings;
  settings.heads = Heads::random;
  settings.branches = 64;
  settings.step_tokens = 512;
  settings.blocks = 400;
  std::vector<RequestParams> requests;
  for (int32_t id = 1; id <= kRequests; ++id) {
    RequestParams params;
    params.id = id;
    params.prompt = prompt;
    params.max_tokens = 4;
    params.sampling.temperature = 4;
    params.sampling.seed = static_cast<uint32_t>(id);
    requests.push_back(params);
  }
  const Outcome outcome = serve(settings, requests, Speculation::automatic);
  CHECK(outcome.accepted > kRequests / 10);
  std::vector<double> counts(kVocab, 0);
  for (const auto& [at, events] : outcome.answers) {
    if (events.size() > 2 && events[2][0] == static_cast<int32_t>(EventKind::token))
      ++counts[static_cast<size_t>(events[2][1])];
    else if (events.size() > 2 && events[1][0] == static_cast<int32_t>(EventKind::token))
      ++counts[kEos];
  }
  double chi_square = 0;
  for (int32_t token = 0; token < kVocab; ++token) {
    const double wanted = expected[static_cast<size_t>(token)] * kRequests;
    if (wanted > 0) chi_square += std::pow(counts[static_cast<size_t>(token)] - wanted, 2) / wanted;
  }
  chi_square +=
      std::pow(kRequests * (1 - reached) - (kRequests - std::accumulate(counts.begin(), counts.end(), 0.0)),
               2) /
      (kRequests * (1 - reached));
  CHECK(chi_square < 29.6);  // 10 degrees of freedom, p = 0.001
}
