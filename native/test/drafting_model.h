#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "core/decoder.h"
#include "fake_model.h"

namespace apar {

// How good the predictions of a DraftingModel's heads are.
enum class Heads : uint8_t {
  none,
  right,   // the most likely one is what greedy serial decoding gives
  wrong,   // never that
  random,  // any tokens, with any probabilities
};

// A FakeModel with draft heads, which can also draw its tokens itself, as a device does. A step takes the
// time that `seconds` says, by a clock of its own.
class DraftingModel : public FakeModel {
 public:
  DraftingModel(int32_t vocab, int32_t context, int32_t num_blocks, int32_t max_rows, ControlTokens tokens,
                Heads heads, bool draws)
      : FakeModel(vocab, context, num_blocks, max_rows),
        tokens_(std::move(tokens)),
        heads_(heads),
        draws_(draws) {
    keep_contexts = true;
  }

  std::function<double()> clock() {
    return [this] { return now; };
  }
  std::function<double(int32_t)> seconds = [](int32_t) { return 1.0; };
  double now = 0;
  int32_t copied = 0;          // slots
  size_t most_logit_rows = 0;  // that a step returned to the host
  bool fails_to_copy = false;

  void forward(const StepBatch& batch, std::span<float> logits) override {
    most_logit_rows = std::max(most_logit_rows, batch.logit_rows.size());
    run(batch, logits);
  }

  bool draws() const override { return draws_; }
  void draw(const StepBatch& batch, std::span<const TokenDraw> draws, std::span<DrawnToken> drawn) override {
    const auto vocab = static_cast<size_t>(config().vocab_size);
    std::vector<float> logits(draws.size() * vocab);
    run(batch, logits);
    for (size_t i = 0; i < draws.size(); ++i) {
      const TokenDraw& draw = draws[i];
      std::vector<float> row(logits.begin() + static_cast<ptrdiff_t>(i * vocab),
                             logits.begin() + static_cast<ptrdiff_t>((i + 1) * vocab));
      row[static_cast<size_t>(draw.masked)] = kMasked;
      drawn[i].maybe_masked_logit = row[static_cast<size_t>(draw.maybe_masked)];
      drawn[i].token = sample(row, draw);
      drawn[i].logit = row[static_cast<size_t>(drawn[i].token)];
      row[static_cast<size_t>(draw.maybe_masked)] = kMasked;
      drawn[i].token_if_masked = sample(row, draw);
      drawn[i].logit_if_masked = row[static_cast<size_t>(drawn[i].token_if_masked)];
    }
  }

  int32_t draft_heads() const override { return heads_ == Heads::none ? 0 : 3; }
  void draft(std::span<const DraftRow> rows, int32_t top_k, std::span<DraftCandidate> out) override {
    auto to = out.begin();
    for (const DraftRow& row : rows) {
      std::vector<int32_t> path = contexts.at(static_cast<size_t>(row.logit_row));
      path.push_back(row.token);
      for (int32_t head = 0; head < draft_heads(); ++head) {
        path.push_back(greedy(path));
        for (const DraftCandidate& candidate : predict(path.back(), top_k)) *to++ = candidate;
      }
    }
  }

  void copy_slots(std::span<const SlotCopy> copies) override {
    if (fails_to_copy) throw Error(ErrorCode::internal, "the device has failed");
    copied += static_cast<int32_t>(copies.size());
    FakeModel::copy_slots(copies);
  }

 private:
  static constexpr float kMasked = -std::numeric_limits<float>::infinity();

  void run(const StepBatch& batch, std::span<float> logits) {
    now += seconds(batch.rows());
    FakeModel::forward(batch, logits);
  }

  // Of the softmax by temperature alone: a run is compared with another of this model.
  static int32_t sample(const std::vector<float>& logits, const TokenDraw& draw) {
    const auto best = std::max_element(logits.begin(), logits.end());
    if (draw.temperature == 0) return static_cast<int32_t>(best - logits.begin());
    std::vector<double> sums;
    for (const float logit : logits)
      sums.push_back((sums.empty() ? 0 : sums.back()) + std::exp((logit - *best) / draw.temperature));
    return static_cast<int32_t>(std::upper_bound(sums.begin(), sums.end(), draw.uniform * sums.back()) -
                                sums.begin());
  }

  int32_t greedy(const std::vector<int32_t>& path) const {
    std::vector<float> logits(static_cast<size_t>(config().vocab_size));
    fill(path, logits);
    logits[static_cast<size_t>(tokens_.child)] = kMasked;
    if (path.back() == tokens_.fork || path.back() == tokens_.child)
      logits[static_cast<size_t>(tokens_.fork)] = kMasked;
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }

  std::vector<DraftCandidate> predict(int32_t right, int32_t top_k) {
    std::vector<int32_t> tokens(static_cast<size_t>(config().vocab_size));
    std::iota(tokens.begin(), tokens.end(), 0);
    std::shuffle(tokens.begin(), tokens.end(), random_);
    const auto found = std::find(tokens.begin(), tokens.end(), right);
    if (heads_ == Heads::right) std::iter_swap(found, tokens.begin());
    if (heads_ == Heads::wrong) std::iter_swap(found, tokens.end() - 1);
    std::vector<float> logprobs;
    for (int32_t i = 0; i < top_k; ++i)
      logprobs.push_back(-0.1f - static_cast<float>(random_() % 1000) / 300.0f);
    std::sort(logprobs.rbegin(), logprobs.rend());
    std::vector<DraftCandidate> candidates;
    for (size_t i = 0; i < logprobs.size(); ++i) candidates.push_back({tokens[i], logprobs[i]});
    return candidates;
  }

  const ControlTokens tokens_;
  const Heads heads_;
  const bool draws_;
  std::mt19937 random_{7};
};

}  // namespace apar
