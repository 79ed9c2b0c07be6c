#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "core/sampler.h"

using namespace apar;

namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();

// The share of each token among the samples at 20,000 positions.
std::map<int32_t, double> shares(std::vector<float> logits, SamplerParams params,
                                 std::vector<int32_t> path = {}) {
  Sampler sampler(static_cast<int32_t>(logits.size()));
  const std::span<const int32_t> pieces[] = {path};
  std::map<int32_t, double> counts;
  constexpr int kDraws = 20000;
  for (int position = 0; position < kDraws; ++position) {
    std::vector<float> copy = logits;
    counts[sampler.sample(copy, params, pieces, 0, root_key(params.seed), position)] += 1.0 / kDraws;
  }
  return counts;
}

}  // namespace

TEST_CASE("greedy sampling returns the token with the highest logit, the first one among equals") {
  Sampler sampler(4);
  std::vector<float> logits{1, 3, 3, 2};
  CHECK(sampler.sample(logits, {}, {}, 0, 1, 0) == 1);
}

TEST_CASE("greedy sampling for many vocabulary sizes, with the maximum, a NaN or an infinity at any index") {
  for (const int32_t vocab : {1, 15, 16, 17, 33, 1023, 1024, 1025, 2100}) {
    CAPTURE(vocab);
    Sampler sampler(vocab);
    std::vector<float> ramp(static_cast<size_t>(vocab));
    for (int32_t i = 0; i < vocab; ++i) ramp[i] = -5.0f - static_cast<float>(i * 37 % vocab);
    for (int32_t place = 0; place < vocab; place += 1 + vocab / 40) {
      std::vector<float> logits = ramp;
      logits[place] = logits[vocab - 1] = -1;
      CHECK(sampler.sample(logits, {}, {}, 0, 1, 0) == place);
      logits[place] = std::numeric_limits<float>::quiet_NaN();
      CHECK(sampler.sample(logits, {}, {}, 0, 1, 0) == -1);
      logits[place] = std::numeric_limits<float>::infinity();
      CHECK(sampler.sample(logits, {}, {}, 0, 1, 0) == -1);
    }
    std::vector<float> masked(ramp.size(), kMasked);
    CHECK(sampler.sample(masked, {}, {}, 0, 1, 0) == -1);
  }
}

TEST_CASE("samples follow the softmax at the given temperature") {
  const auto got = shares({0, std::log(2.0f), std::log(5.0f), kMasked}, {.temperature = 1.0f});
  CHECK(got.at(0) == doctest::Approx(0.125).epsilon(0.05));
  CHECK(got.at(1) == doctest::Approx(0.25).epsilon(0.05));
  CHECK(got.at(2) == doctest::Approx(0.625).epsilon(0.05));
  CHECK(got.count(3) == 0);
  const auto hot = shares({0, std::log(4.0f)}, {.temperature = 2.0f});
  CHECK(hot.at(1) == doctest::Approx(2.0 / 3).epsilon(0.05));
}

TEST_CASE("top-k, top-p and min-p keep the right tokens") {
  const std::vector<float> logits{std::log(0.1f), std::log(0.4f), std::log(0.2f), std::log(0.3f)};
  const auto k = shares(logits, {.temperature = 1.0f, .top_k = 2});
  CHECK(k.size() == 2);
  CHECK(k.at(1) == doctest::Approx(4.0 / 7).epsilon(0.05));
  const auto p = shares(logits, {.temperature = 1.0f, .top_p = 0.65f});
  CHECK(p.size() == 2);
  CHECK(p.count(3) == 1);
  const auto m = shares(logits, {.temperature = 1.0f, .min_p = 0.45f});
  CHECK(m.size() == 3);
  CHECK(m.count(0) == 0);
  CHECK(shares(logits, {.temperature = 1.0f, .top_p = 1e-6f}).size() == 1);
}

TEST_CASE("top-p draws what sorting the whole vocabulary gives") {
  constexpr int32_t kVocab = 2000;
  Sampler sampler(kVocab);
  std::vector<float> logits(kVocab);
  for (int32_t position = 0; position < 300; ++position) {
    // From one likely token to nearly equal ones, with equal logits among them.
    const float spread = 0.01f * static_cast<float>(1 + position % 30) * static_cast<float>(1 + position % 7);
    for (int32_t i = 0; i < kVocab; ++i)
      logits[i] = spread * std::round(40.0f * static_cast<float>(uniform_at(7 + position, i)));
    const float top_p = 0.01f + 0.98f * static_cast<float>(uniform_at(3, position));
    const uint64_t key = root_key(5);

    const float max = *std::max_element(logits.begin(), logits.end());
    std::vector<std::pair<float, int32_t>> sorted;
    for (int32_t i = 0; i < kVocab; ++i) sorted.emplace_back(-std::exp(logits[i] - max), i);
    std::sort(sorted.begin(), sorted.end());
    double total = 0.0, kept = 0.0;
    for (const auto& [weight, token] : sorted) total -= weight;
    size_t count = 0;
    while (kept < total * top_p) kept -= sorted[count++].first;
    double rest = uniform_at(key, position) * kept;
    size_t drawn = 0;
    while ((rest += sorted[drawn].first) >= 0.0 && drawn + 1 < count) ++drawn;

    std::vector<float> copy = logits;
    CAPTURE(position);
    CHECK(sampler.sample(copy, {.temperature = 1.0f, .top_p = top_p}, {}, 0, key, position) ==
          sorted[drawn].second);
  }
}

TEST_CASE("the repetition penalty lowers the logit of each token of the path once, for both signs") {
  Sampler sampler(3);
  const std::vector<int32_t> path{0, 0, 1};
  const std::span<const int32_t> pieces[] = {path, path};
  std::vector<float> logits{2, -1, 0.5f};
  sampler.sample(logits, {.repetition_penalty = 2.0f}, pieces, 3, 0, 0);
  CHECK(logits == std::vector<float>{1, -2, 0.5f});
}

TEST_CASE("frequency and presence penalties count generated tokens, not the prompt") {
  Sampler sampler(4);
  const std::vector<int32_t> first{0, 0, 1}, second{2, 1, 2, 2};  // the prompt ends within the second piece
  const std::span<const int32_t> pieces[] = {first, second};
  std::vector<float> logits{5, 5, 5, 5};
  sampler.sample(logits, {.frequency_penalty = 1.0f, .presence_penalty = 0.25f}, pieces, 4, 0, 0);
  CHECK(logits == std::vector<float>{5, 3.75f, 2.75f, 5});
  std::vector<float> wanted{0, 0, 0, 0};
  CHECK(sampler.sample(wanted, {.presence_penalty = -1.0f}, pieces, 4, 0, 0) == 1);
  CHECK(wanted == std::vector<float>{0, 1, 1, 0});
}

TEST_CASE("penalties leave control tokens alone, in the prompt and in the answer") {
  Sampler sampler(4, {2, 3});
  const std::vector<int32_t> path{0, 2, 3, 1, 2, 3, 2};
  const std::span<const int32_t> pieces[] = {path};
  std::vector<float> logits{4, 4, 4, -4};
  sampler.sample(logits, {.repetition_penalty = 2.0f}, pieces, 3, 0, 0);
  CHECK(logits == std::vector<float>{2, 2, 4, -4});
  sampler.sample(logits, {.frequency_penalty = 1.0f, .presence_penalty = 0.5f}, pieces, 3, 0, 0);
  CHECK(logits == std::vector<float>{2, 0.5f, 4, -4});
}

TEST_CASE("penalties leave tokens alone that a request says, and no other request's") {
  Sampler sampler(4);
  const std::vector<int32_t> path{0, 1, 2, 3, 1, 2};
  const std::span<const int32_t> pieces[] = {path};
  const auto kept = std::make_shared<const std::vector<bool>>(std::vector<bool>{false, true, true});
  const SamplerParams params = {
      .repetition_penalty = 2.0f, .frequency_penalty = 1.0f, .presence_penalty = 0.5f};
  SamplerParams sparing = params;
  sparing.unpenalised = kept;
  std::vector<float> logits{4, 4, -4, 4};
  sampler.sample(logits, sparing, pieces, 1, 0, 0);
  CHECK(logits == std::vector<float>{2, 4, -4, 0.5f});
  std::vector<float> others{4, 4, -4, 4};
  sampler.sample(others, params, pieces, 1, 0, 0);
  CHECK(others == std::vector<float>{2, -0.5f, -10.5f, 0.5f});
}

TEST_CASE("a sample depends only on logits, key and position, and the root key on the seed") {
  const std::vector<float> logits(50, 0.0f);
  const auto draw = [&](uint64_t key, int32_t position) {
    Sampler fresh(50);
    std::vector<float> copy = logits;
    return fresh.sample(copy, {.temperature = 1.0f}, {}, 0, key, position);
  };
  CHECK(draw(root_key(1), 5) == draw(root_key(1), 5));
  int same_seed = 0, same_child = 0;
  for (int32_t position = 0; position < 1000; ++position) {
    same_seed += draw(root_key(1), position) == draw(root_key(2), position);
    same_child += draw(child_key(root_key(1), 3), position) == draw(child_key(root_key(1), 4), position);
  }
  CHECK(same_seed < 60);  // 20 by chance
  CHECK(same_child < 60);
}

TEST_CASE("logits of a failed device give -1") {
  Sampler sampler(2);
  std::vector<float> nan{1, std::nanf("")};
  CHECK(sampler.sample(nan, {}, {}, 0, 0, 0) == -1);
  std::vector<float> nothing{kMasked, kMasked};
  CHECK(sampler.sample(nothing, {.temperature = 1.0f}, {}, 0, 0, 0) == -1);
}
