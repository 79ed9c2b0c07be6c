#include "core/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace apar {
namespace {

// Finaliser of splitmix64 (Steele, Lea, Flood 2014): one well-mixed word per counter value.
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

double uniform_at(uint64_t key, int32_t position) {
  return static_cast<double>(mix(key ^ mix(static_cast<uint32_t>(position))) >> 11) * 0x1.0p-53;
}

}  // namespace

uint64_t root_key(uint32_t seed) {
  return mix(seed);
}
uint64_t child_key(uint64_t key, int32_t position) {
  return mix(key + 2 * static_cast<uint64_t>(position) + 1);
}

Sampler::Sampler(int32_t vocab_size) : seen_(static_cast<size_t>(vocab_size), 0) {
  candidates_.reserve(static_cast<size_t>(vocab_size));
}

int32_t Sampler::sample(std::span<float> logits, const SamplerParams& params,
                        std::span<const std::span<const int32_t>> path, uint64_t key, int32_t position) {
  if (params.repetition_penalty != 1.0f) penalise(logits, params.repetition_penalty, path);
  int32_t best = -1;
  float max_logit = -std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i])) return -1;
    if (logits[i] > max_logit) {
      max_logit = logits[i];
      best = static_cast<int32_t>(i);
    }
  }
  if (best < 0 || std::isinf(max_logit) || params.temperature <= 0.0f)
    return std::isinf(max_logit) ? -1 : best;
  return draw(logits, max_logit, params, uniform_at(key, position));
}

void Sampler::penalise(std::span<float> logits, float penalty,
                       std::span<const std::span<const int32_t>> path) {
  if (++stamp_ == 0) {
    std::fill(seen_.begin(), seen_.end(), 0);
    stamp_ = 1;
  }
  for (const auto& tokens : path) {
    for (const int32_t token : tokens) {
      const auto i = static_cast<size_t>(token);
      if (seen_[i] == stamp_) continue;
      seen_[i] = stamp_;
      logits[i] = logits[i] > 0.0f ? logits[i] / penalty : logits[i] * penalty;
    }
  }
}

int32_t Sampler::draw(std::span<const float> logits, float max_logit, const SamplerParams& params,
                      double uniform) {
  // min-p is a bound relative to the most likely token: exp((l - max) / T) >= min_p.
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    const float weight = std::exp((logits[i] - max_logit) / params.temperature);
    if (weight > 0.0f && weight >= params.min_p) candidates_.push_back({weight, static_cast<int32_t>(i)});
  }
  const auto likelier = [](const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
  };
  const auto top_k = static_cast<size_t>(params.top_k);
  if (top_k > 0 && top_k < candidates_.size()) {
    std::nth_element(candidates_.begin(), candidates_.begin() + params.top_k, candidates_.end(), likelier);
    candidates_.resize(top_k);
  }
  // nth_element leaves an order that only the input fixes, yet sorted order is what top-p needs.
  if (params.top_p < 1.0f || top_k > 0) std::sort(candidates_.begin(), candidates_.end(), likelier);
  double total = 0.0;
  for (const Candidate& c : candidates_) total += c.weight;
  if (params.top_p < 1.0f) {
    const double limit = total * params.top_p;
    double sum = 0.0;
    size_t kept = 0;
    while (kept < candidates_.size() && sum < limit) sum += candidates_[kept++].weight;
    candidates_.resize(std::max<size_t>(kept, 1));
    total = 0.0;
    for (const Candidate& c : candidates_) total += c.weight;
  }
  double rest = uniform * total;
  for (const Candidate& c : candidates_) {
    rest -= c.weight;
    if (rest < 0.0) return c.token;
  }
  return candidates_.back().token;
}

}  // namespace apar
