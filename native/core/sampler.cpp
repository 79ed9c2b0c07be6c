#include "core/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>
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

// The vectors of GCC and Clang, as wide as every processor has them; several side by side hide their latency.
constexpr size_t kLanes = 4, kVectors = 4;
using Lanes = float __attribute__((vector_size(kLanes * sizeof(float))));
using Flags = int32_t __attribute__((vector_size(kLanes * sizeof(int32_t))));

// The greatest of `best` and the logits; `broken` becomes other than zero where one is NaN.
float greatest_of(std::span<const float> logits, float best, Flags& broken) {
  Lanes most[kVectors] = {Lanes{} + best, Lanes{} + best, Lanes{} + best, Lanes{} + best};
  size_t i = 0;
  for (; i + kLanes * kVectors <= logits.size(); i += kLanes * kVectors) {
    Lanes lanes[kVectors];
    std::memcpy(lanes, &logits[i], sizeof(lanes));
    for (size_t vector = 0; vector < kVectors; ++vector) {
      most[vector] = lanes[vector] > most[vector] ? lanes[vector] : most[vector];
      broken |= lanes[vector] != lanes[vector];
    }
  }
  for (; i < logits.size(); ++i) {
    most[0][0] = logits[i] > most[0][0] ? logits[i] : most[0][0];
    broken[0] |= std::isnan(logits[i]) ? 1 : 0;
  }
  for (const Lanes& lanes : most)
    for (size_t lane = 0; lane < kLanes; ++lane) best = std::max(best, lanes[lane]);
  return best;
}

// The first of the greatest logits; -1 when none is finite, one is +inf or one is NaN. The place is looked
// for only in the stretch where the maximum last grew.
int32_t first_greatest(std::span<const float> logits) {
  constexpr size_t kStretch = 1024;
  float best = -std::numeric_limits<float>::infinity();
  size_t found = 0;
  Flags broken = {};
  for (size_t begin = 0; begin < logits.size(); begin += kStretch) {
    const auto stretch = logits.subspan(begin, std::min(kStretch, logits.size() - begin));
    const float greatest = greatest_of(stretch, best, broken);
    if (greatest > best) found = begin;
    best = greatest;
  }
  for (size_t lane = 0; lane < kLanes; ++lane)
    if (broken[lane] != 0) return -1;
  if (std::isinf(best)) return -1;
  while (logits[found] != best) ++found;
  return static_cast<int32_t>(found);
}

}  // namespace

double uniform_at(uint64_t key, int32_t position) {
  return static_cast<double>(mix(key ^ mix(static_cast<uint32_t>(position))) >> 11) * 0x1.0p-53;
}

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
                        std::span<const std::span<const int32_t>> path, int32_t prompt_tokens, uint64_t key,
                        int32_t position) {
  if (params.repetition_penalty != 1.0f) penalise_seen(logits, params.repetition_penalty, path);
  if (params.frequency_penalty != 0.0f || params.presence_penalty != 0.0f)
    penalise_generated(logits, params, path, prompt_tokens);
  const int32_t best = first_greatest(logits);
  if (best < 0 || params.temperature <= 0.0f) return best;
  return draw(logits, logits[static_cast<size_t>(best)], params, uniform_at(key, position));
}

void Sampler::new_stamp() {
  if (++stamp_ != 0) return;
  std::fill(seen_.begin(), seen_.end(), 0);
  stamp_ = 1;
}

void Sampler::penalise_seen(std::span<float> logits, float penalty,
                            std::span<const std::span<const int32_t>> path) {
  new_stamp();
  for (const auto& tokens : path) {
    for (const int32_t token : tokens) {
      const auto i = static_cast<size_t>(token);
      if (seen_[i] == stamp_) continue;
      seen_[i] = stamp_;
      logits[i] = logits[i] > 0.0f ? logits[i] / penalty : logits[i] * penalty;
    }
  }
}

void Sampler::penalise_generated(std::span<float> logits, const SamplerParams& params,
                                 std::span<const std::span<const int32_t>> path, int32_t prompt_tokens) {
  new_stamp();
  auto skip = static_cast<size_t>(prompt_tokens);
  for (const auto& tokens : path) {
    const size_t skipped = std::min(skip, tokens.size());
    skip -= skipped;
    for (const int32_t token : tokens.subspan(skipped)) {
      const auto i = static_cast<size_t>(token);
      logits[i] -= params.frequency_penalty;
      if (seen_[i] == stamp_) continue;
      seen_[i] = stamp_;
      logits[i] -= params.presence_penalty;
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
