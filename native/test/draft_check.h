#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include "model/model.h"
#include "test/naive_llama.h"
#include "test/random_model.h"
#include "test/random_numbers.h"

namespace apar::test {

inline std::vector<int32_t> random_tokens(uint32_t seed, int32_t count, int32_t vocab) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < count; ++i) tokens.push_back(random_int(random, 0, vocab - 1));
  return tokens;
}

// Any token may have been chosen from the logits of a row.
inline int32_t chosen_token(int32_t row) {
  return (7 * row + 3) % 61;
}

inline std::vector<DraftCandidate> drafts_of(Model& model, const std::vector<int32_t>& rows, int32_t top_k) {
  std::vector<DraftRow> of;
  for (const int32_t row : rows) of.push_back({row, chosen_token(row)});
  std::vector<DraftCandidate> out(rows.size() * static_cast<size_t>(model.draft_heads() * top_k));
  model.draft(of, top_k, out);
  return out;
}

// Two heads of two residual blocks beside a decoder of this shape. `missing`: the last tokens, which are
// never candidates.
inline ModelConfig with_heads(ModelConfig config, bool shares_lm_head, int32_t heads = 2, int32_t layers = 2,
                              int32_t missing = 0) {
  config.medusa = {heads, layers, shares_lm_head, config.vocab_size - missing};
  return config;
}

inline ModelConfig reading_next_token(ModelConfig config) {
  config.medusa.reads_next_token = true;
  return config;
}

// The candidates of the rows of a text against the naive heads, whose log-probabilities may differ by
// `tolerance`.
inline void check_drafts(const RandomModel& random, const std::vector<int32_t>& text,
                         const std::vector<DraftCandidate>& got, int32_t top_k, double tolerance) {
  const NaiveLlama naive(random.config, random.weights);
  const auto vocab = static_cast<size_t>(random.config.vocab_size), k = static_cast<size_t>(top_k);
  const auto heads = static_cast<size_t>(random.config.medusa.num_heads);
  REQUIRE(got.size() == text.size() * heads * k);
  for (size_t head = 0; head < heads; ++head) {
    std::vector<int32_t> chosen;
    for (size_t row = 0; row < text.size(); ++row) chosen.push_back(chosen_token(static_cast<int32_t>(row)));
    const std::vector<double> logits = naive.head_logits(text, chosen, static_cast<int32_t>(head));
    for (size_t row = 0; row < text.size(); ++row) {
      std::vector<double> logprobs(logits.begin() + static_cast<ptrdiff_t>(row * vocab),
                                   logits.begin() + static_cast<ptrdiff_t>((row + 1) * vocab));
      double sum = 0;
      for (const double logit : logprobs) sum += std::exp(logit);
      for (double& each : logprobs) each -= std::log(sum);
      std::vector<double> sorted = logprobs;
      std::ranges::sort(sorted, std::greater{});
      for (size_t i = 0; i < k; ++i) {
        const DraftCandidate& one = got[(row * heads + head) * k + i];
        CAPTURE(head);
        CAPTURE(row);
        CAPTURE(i);
        REQUIRE(one.token >= 0);
        const double want = logprobs.at(static_cast<size_t>(one.token));
        REQUIRE(std::abs(one.logprob - want) < tolerance);
        REQUIRE(want > sorted[i] - 2 * tolerance);
        if (i > 0) REQUIRE(one.logprob <= got[(row * heads + head) * k + i - 1].logprob);
      }
    }
  }
}

}  // namespace apar::test
