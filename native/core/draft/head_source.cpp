#include "core/draft/head_source.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/draft/acceptance.h"

namespace apar {
namespace {

// Paths that are less likely are never worth a row.
constexpr float kLeastLogprob = -6;
// Bounds between the buckets of a depth; a head's own probabilities need not be right.
constexpr std::array<float, 7> kProbabilities = {0.02f, 0.05f, 0.1f, 0.2f, 0.4f, 0.6f, 0.8f};
constexpr int32_t kLevels = static_cast<int32_t>(kProbabilities.size()) + 1;
constexpr int32_t kDepths = AcceptanceRates::kBuckets / kLevels;  // the last one is for all deeper ones

int32_t bucket_of(int32_t depth, float probability) {
  const auto level = std::upper_bound(kProbabilities.begin(), kProbabilities.end(), probability);
  return std::min(depth, kDepths - 1) * kLevels + static_cast<int32_t>(level - kProbabilities.begin());
}

}  // namespace

HeadSource::Prediction& HeadSource::of(int32_t branch) {
  if (branches_.size() <= static_cast<size_t>(branch)) branches_.resize(static_cast<size_t>(branch) + 1);
  return branches_[static_cast<size_t>(branch)];
}

void HeadSource::append(int32_t branch, std::span<const int32_t> tokens) {
  if (!tokens.empty()) of(branch).heads.clear();
}

void HeadSource::predicted(int32_t branch, std::span<const DraftCandidate> heads, int32_t top_k) {
  Prediction& prediction = of(branch);
  prediction.heads.assign(heads.begin(), heads.end());
  prediction.top_k = top_k;
}

void HeadSource::end(int32_t branch) {
  of(branch) = {};
}

void HeadSource::propose(int32_t branch, int32_t max_depth, std::vector<Candidate>& out) {
  out.clear();
  const Prediction& prediction = of(branch);
  if (prediction.heads.empty()) return;
  const auto depths = std::min(max_depth, static_cast<int32_t>(prediction.heads.size()) / prediction.top_k);
  const auto at = [&](int32_t depth, int32_t rank) {
    return prediction.heads[static_cast<size_t>(depth * prediction.top_k + rank)];
  };
  const auto less_likely = [](const Open& a, const Open& b) { return a.logprob < b.logprob; };
  const auto push = [&](float above, int32_t parent, int32_t depth, int32_t rank) {
    const int32_t ranks = std::min(prediction.top_k, depth == 0 ? kTopTokens : kTopBelow);
    if (depth >= depths || rank >= ranks || at(depth, rank).token < 0) return;
    const float logprob = above + at(depth, rank).logprob;
    if (!(logprob >= kLeastLogprob)) return;
    open_.push_back({logprob, parent, depth, rank});
    std::push_heap(open_.begin(), open_.end(), less_likely);
  };
  open_.clear();
  logprobs_.clear();
  push(0, -1, 0, 0);
  while (!open_.empty() && out.size() < kMostCandidates) {
    std::pop_heap(open_.begin(), open_.end(), less_likely);
    const Open best = open_.back();
    open_.pop_back();
    const auto [token, logprob] = at(best.depth, best.rank);
    const float probability = std::exp(logprob);
    const auto index = static_cast<int32_t>(out.size());
    out.push_back({token, best.parent, best.depth, bucket_of(best.depth, probability), probability});
    logprobs_.push_back(best.logprob);
    push(best.parent < 0 ? 0 : logprobs_[static_cast<size_t>(best.parent)], best.parent, best.depth,
         best.rank + 1);
    push(best.logprob, index, best.depth + 1, 0);
  }
}

}  // namespace apar
