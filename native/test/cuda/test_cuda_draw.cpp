// Tokens that the device samples against those of core/sampler.h, on random logits with ties, also when
// [Fork] is refused.
#include <doctest/doctest.h>

#include <array>
#include <limits>

#include "core/sampler.h"
#include "ops/cuda/elementwise/draw.h"
#include "test/cuda/device_array.h"
#include "test/cuda/either_order.h"
#include "test/cuda/open_device.h"

using namespace apar;
using namespace apar::cuda;
using namespace apar::test;

namespace {

std::vector<DrawnToken> run(Device& device, const std::vector<float>& logits, int32_t vocab,
                            const std::vector<TokenDraw>& draws) {
  const DeviceArray<float> logits_device(device, logits);
  const DeviceArray<TokenDraw> draws_device(device, draws);
  const DeviceArray<DrawnToken> drawn(device, draws.size());
  draw_tokens(device.stream(), logits_device.data(), static_cast<int32_t>(draws.size()), vocab,
              draws_device.data(), drawn.data());
  return drawn.get();
}

// Logits with few different values, or with only one, so that ties are common.
std::vector<float> random_logits(std::mt19937& random, size_t count) {
  const float step = std::array{0.0f, 0.5f, 0.5f, 16.0f}[random() % 4];
  std::vector<float> logits = random_floats(random, count, 4);
  if (step > 0)
    for (float& logit : logits) logit = std::round(logit / step) * step;
  return logits;
}

int32_t on_host(std::vector<float> logits, const TokenDraw& draw, bool refuse, uint64_t key,
                int32_t position) {
  for (const int32_t id : {draw.masked, refuse ? draw.maybe_masked : -1})
    if (id >= 0) logits[id] = -std::numeric_limits<float>::infinity();
  SamplerParams params;
  params.temperature = draw.temperature;
  params.top_p = draw.top_p;
  params.min_p = draw.min_p;
  params.top_k = draw.top_k;
  Sampler sampler(static_cast<int32_t>(logits.size()));
  return sampler.sample(logits, params, {}, 0, key, position);
}

}  // namespace

TEST_CASE("the device samples the same tokens as the host") {
  std::mt19937 random(21);
  const auto device = open_test_device();
  int different = 0, rows_total = 0;
  for (const int32_t vocab : {1, 7, 300, 1100, 9000}) {
    for (int round = 0; round < 6; ++round) {
      const size_t rows = 1 + random() % 4;
      const std::vector<float> logits = random_logits(random, rows * vocab);
      std::vector<TokenDraw> draws(rows);
      std::vector<uint64_t> keys;
      for (size_t row = 0; row < rows; ++row) {
        TokenDraw& draw = draws[row];
        draw.temperature = round == 0 ? 0 : 0.3f + static_cast<float>(random() % 3);
        draw.top_p = random() % 2 == 0 ? 1 : 0.1f + 0.2f * static_cast<float>(random() % 5);
        draw.top_k = random() % 2 == 0 ? 0 : static_cast<int32_t>(random() % 20) + 1;
        draw.min_p = random() % 3 == 0 ? 0.05f : 0;
        if (vocab > 2) {
          draw.masked = static_cast<int32_t>(random() % vocab);
          draw.maybe_masked = random() % 2 == 0 ? (draw.masked + 1) % vocab : -1;
        }
        keys.push_back(root_key(random()));
        draw.uniform = uniform_at(keys.back(), 5);
      }
      const auto tokens = in_either_order([&] {
        std::vector<std::vector<int32_t>> ids;
        for (const DrawnToken& drawn : run(*device, logits, vocab, draws))
          ids.push_back({drawn.token, drawn.token_if_masked});
        return ids;
      });
      const std::vector<DrawnToken> drawn = run(*device, logits, vocab, draws);
      for (size_t row = 0; row < rows; ++row) {
        const std::vector<float> mine(logits.begin() + row * vocab, logits.begin() + (row + 1) * vocab);
        for (const bool refuse : {false, true}) {
          ++rows_total;
          different += tokens[row][refuse] != on_host(mine, draws[row], refuse, keys[row], 5);
        }
        CHECK(drawn[row].logit == mine[drawn[row].token]);
        CHECK(drawn[row].logit_if_masked == mine[drawn[row].token_if_masked]);
        if (draws[row].maybe_masked >= 0)
          CHECK(drawn[row].maybe_masked_logit == mine[draws[row].maybe_masked]);
      }
    }
  }
  CHECK(rows_total > 60);
  // Both round their sums, so that a sample at the border between two tokens may differ.
  CHECK(different * 100 <= rows_total);
}

TEST_CASE("each token is sampled for its share of the interval from 0 to 1") {
  const auto device = open_test_device();
  for (const int32_t vocab : {2, 33, 700, 20000}) {
    std::vector<TokenDraw> draws;
    for (const int32_t id : {0, 1, vocab / 2, vocab - 1}) {
      for (const double within : {0x1p-40, 0.5, 1 - 0x1p-30}) {
        for (const int32_t top_k : {0, vocab}) {
          TokenDraw& draw = draws.emplace_back();
          draw.temperature = 1;
          draw.top_k = top_k;
          draw.uniform = (id + within) / vocab;
        }
      }
    }
    draws.back().uniform = 1 - 0x1p-53;
    const std::vector<float> logits(draws.size() * vocab, 1.0f);
    const auto drawn = run(*device, logits, vocab, draws);
    for (size_t row = 0; row < draws.size(); ++row)
      CHECK(drawn[row].token == static_cast<int32_t>(draws[row].uniform * vocab));
  }
}

TEST_CASE("greedy: the smallest id among equal logits, masked tokens, and NaN or no finite logit") {
  const auto device = open_test_device();
  constexpr int32_t vocab = 600;
  std::vector<float> logits(4 * vocab, 1.0f);
  logits[37] = logits[500] = 2;
  logits[vocab + 599] = std::numeric_limits<float>::quiet_NaN();
  for (int32_t i = 0; i < vocab; ++i) logits[2 * vocab + i] = -std::numeric_limits<float>::infinity();
  TokenDraw masked;
  masked.masked = 37;
  masked.maybe_masked = 500;
  const auto drawn = run(*device, logits, vocab, {masked, {}, {}, {}});
  CHECK(drawn[0].token == 500);
  CHECK(drawn[0].token_if_masked == 0);
  CHECK(drawn[0].maybe_masked_logit == 2);
  CHECK(drawn[1].token == -1);
  CHECK(drawn[2].token == -1);
  CHECK(drawn[3].token == 0);
}
