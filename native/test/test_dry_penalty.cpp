#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "common/error.h"
#include "core/dry_penalty.h"
#include "core/tokens_with_text.h"

using namespace apar;

namespace {

constexpr int32_t kVocab = 8;

// What each token loses.
std::vector<float> losses(const std::vector<int32_t>& path, const DryParams& params) {
  std::vector<float> logits(kVocab, 0.0f);
  DryPenalty penalty;
  const std::span<const int32_t> parts[] = {std::span(path).first(path.size() / 2),
                                            std::span(path).subspan(path.size() / 2)};
  penalty.apply(logits, params, parts);
  for (float& logit : logits) logit = -logit;
  return logits;
}

// By the definition: for each place in the text, how many tokens before it are those at the end.
std::vector<float> expected(const std::vector<int32_t>& path, const DryParams& params) {
  std::vector<float> wanted(kVocab, 0.0f);
  const size_t last_n = params.penalty_last_n < 0 ? path.size() : static_cast<size_t>(params.penalty_last_n);
  const size_t begin = path.size() - std::min(path.size(), last_n);
  for (size_t next = begin; next < path.size(); ++next) {
    size_t length = 0;
    while (length < next - begin && path[next - 1 - length] == path[path.size() - 1 - length] &&
           !params.breaks(path[path.size() - 1 - length]))
      ++length;
    if (length < static_cast<size_t>(params.allowed_length) || params.breaks(path[next])) continue;
    const float loss =
        params.multiplier *
        std::pow(params.base, static_cast<float>(length) - static_cast<float>(params.allowed_length));
    wanted[static_cast<size_t>(path[next])] = std::max(wanted[static_cast<size_t>(path[next])], loss);
  }
  return wanted;
}

}  // namespace

TEST_CASE("DRY: what would go on with a repeated sequence loses, the more the longer it is") {
  const DryParams params = {.multiplier = 2, .base = 3, .allowed_length = 2};
  CHECK(losses({1, 2, 3, 4, 1, 2}, params)[3] == doctest::Approx(2));
  CHECK(losses({1, 2, 3, 4, 1, 2, 3}, params)[4] == doctest::Approx(2 * 3));
  // One token is no sequence yet, and what followed something else is free.
  CHECK(losses({1, 2, 3, 4, 1}, params) == std::vector<float>(kVocab, 0.0f));
  CHECK(losses({1, 2, 3, 4, 1, 2}, params)[4] == 0);
  // A loop: its longest match counts, however long.
  const std::vector<int32_t> loop(400, 5);
  CHECK(losses(loop, params)[5] == doctest::Approx(1e6f));
}

TEST_CASE("DRY: a breaker ends sequences, and is free itself") {
  auto breakers = std::make_shared<std::vector<bool>>(kVocab, false);
  (*breakers)[7] = true;
  const DryParams params = {.multiplier = 1, .base = 2, .allowed_length = 1, .breakers = breakers};
  CHECK(losses({1, 2, 7, 3, 1, 2}, params)[7] == 0);
  CHECK(losses({1, 7, 2, 3, 1, 7}, params)[2] == 0);
  // Two tokens of the three that repeat lie behind the breaker.
  CHECK(losses({7, 1, 2, 3, 7, 1, 2}, params)[3] == doctest::Approx(2));
}

TEST_CASE("DRY: only the last tokens of the path count when there is a limit") {
  DryParams params = {.multiplier = 1, .base = 2, .allowed_length = 2};
  CHECK(losses({1, 2, 3, 4, 1, 2}, params)[3] > 0);
  for (const int32_t last_n : {0, 1, 5}) {
    params.penalty_last_n = last_n;
    CHECK(losses({1, 2, 3, 4, 1, 2}, params)[3] == 0);
  }
}

TEST_CASE("DRY: random paths against the definition") {
  std::mt19937 random(11);
  for (int trial = 0; trial < 2000; ++trial) {
    const auto below = [&random](uint32_t count) { return static_cast<int32_t>(random() % count); };
    std::vector<int32_t> path(static_cast<size_t>(below(60)));
    const uint32_t tokens = 2 + random() % (kVocab - 2);
    for (int32_t& token : path) token = below(tokens);
    auto breakers = std::make_shared<std::vector<bool>>(kVocab, false);
    (*breakers)[static_cast<size_t>(below(kVocab))] = below(2) == 0;
    const DryParams params = {.multiplier = 0.5f,
                              .base = 1.25f,
                              .allowed_length = 1 + below(4),
                              .penalty_last_n = below(3) == 0 ? below(40) : -1,
                              .breakers = breakers};
    const std::vector<float> found = losses(path, params), wanted = expected(path, params);
    for (size_t token = 0; token < kVocab; ++token) {
      CAPTURE(trial);
      CHECK(found[token] == doctest::Approx(wanted[token]));
    }
  }
}

TEST_CASE("DRY: breakers are the tokens that have one of the strings, and those without text") {
  const std::string bytes = "a:b\n\nxy";
  TokenText text;
  text.bytes.assign(bytes.begin(), bytes.end());
  text.offsets = {0, 1, 3, 4, 5, 5, 7};  // a, :b, \n, \n, -, xy
  TokensWithText breakers(text);
  const auto found = breakers.of({"\n", ":", "xy!", "\n\n", ""});
  CHECK(*found == std::vector<bool>{false, true, true, true, true, false});
  CHECK(*breakers.of({}) == std::vector<bool>{false, false, false, false, true, false});
  CHECK(breakers.of({"\n", ":", "xy!", "\n\n", ""}) == found);
}

TEST_CASE("DRY: parameters outside their ranges are refused") {
  for (const DryParams& params :
       {DryParams{.multiplier = -1}, DryParams{.base = 0.5f}, DryParams{.allowed_length = 0},
        DryParams{.penalty_last_n = -2}, DryParams{.multiplier = std::nanf("")}})
    CHECK_THROWS_AS(params.validate(), Error);
  CHECK_NOTHROW(DryParams{}.validate());
}
