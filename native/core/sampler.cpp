#include "core/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "common/error.h"

namespace apar {
namespace {

// Logits divided by it stay far below the largest float.
constexpr float kMinRepetitionPenalty = 1e-6f;
// Sums of weights in another order differ by much less than the rest of 1.
constexpr double kRounding = 0.999;

// The output function of splitmix64 (Steele, Lea, Flood 2014), used as a hash of a counter.
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// Vector extensions of GCC and Clang, 128 bits wide because every processor has that. Several independent
// vectors hide the latency.
constexpr size_t kLanes = 4, kVectors = 4;
using Lanes = float __attribute__((vector_size(kLanes * sizeof(float))));
using Flags = int32_t __attribute__((vector_size(kLanes * sizeof(int32_t))));

// The maximum of `best` and the logits. Sets an element of `nan` to a non-zero value if a logit is NaN.
float max_of(std::span<const float> logits, float best, Flags& nan) {
  Lanes max[kVectors] = {Lanes{} + best, Lanes{} + best, Lanes{} + best, Lanes{} + best};
  size_t i = 0;
  for (; i + kLanes * kVectors <= logits.size(); i += kLanes * kVectors) {
    Lanes lanes[kVectors];
    std::memcpy(lanes, &logits[i], sizeof(lanes));
    for (size_t vector = 0; vector < kVectors; ++vector) {
      max[vector] = lanes[vector] > max[vector] ? lanes[vector] : max[vector];
      nan |= lanes[vector] != lanes[vector];
    }
  }
  for (; i < logits.size(); ++i) {
    max[0][0] = logits[i] > max[0][0] ? logits[i] : max[0][0];
    nan[0] |= std::isnan(logits[i]) ? 1 : 0;
  }
  for (const Lanes& lanes : max)
    for (size_t lane = 0; lane < kLanes; ++lane) best = std::max(best, lanes[lane]);
  return best;
}

// The index of the maximum, the first one among equals; -1 when no logit is finite, one is +inf or one is
// NaN. The index is searched only in the chunk in which the maximum last grew.
int32_t argmax(std::span<const float> logits) {
  constexpr size_t kChunk = 1024;
  float best = -std::numeric_limits<float>::infinity();
  size_t found = 0;
  Flags nan = {};
  for (size_t begin = 0; begin < logits.size(); begin += kChunk) {
    const auto chunk = logits.subspan(begin, std::min(kChunk, logits.size() - begin));
    const float max = max_of(chunk, best, nan);
    if (max > best) found = begin;
    best = max;
  }
  for (size_t lane = 0; lane < kLanes; ++lane)
    if (nan[lane] != 0) return -1;
  if (std::isinf(best)) return -1;
  while (logits[found] != best) ++found;
  return static_cast<int32_t>(found);
}

// e^x for x <= 0, 0 below -87; relative error below 2e-7. The polynomial is that of Cephes' expf (S.
// Moshier).
Lanes exp_of(Lanes x) {
  constexpr float kLog2E = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  // Adding it rounds to a whole number, which is then in the low bits.
  constexpr float kRounder = 12582912.0f;
  constexpr int32_t kRounderBits = 0x4b400000, kExponentBias = 127, kMantissaBits = 23;
  constexpr float kLeast = -87.0f;
  const Lanes in_range = x < kLeast ? Lanes{} + kLeast : x;
  const Lanes rounded = in_range * kLog2E + kRounder;
  const Lanes n = rounded - kRounder;
  const Lanes r = (in_range - n * kLn2High) - n * kLn2Low;
  Lanes p = Lanes{} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const Flags exponent = std::bit_cast<Flags>(rounded) - kRounderBits + kExponentBias;
  const Lanes power = std::bit_cast<Lanes>(exponent << kMantissaBits);
  return x < kLeast ? Lanes{} : p * power;
}

// weights[i] = exp((logits[i] - max_logit) / temperature)
void weigh(std::span<const float> logits, float max_logit, float temperature, std::span<float> weights) {
  const auto weigh_lanes = [&](size_t i, size_t bytes) {
    Lanes lanes = {};
    std::memcpy(&lanes, &logits[i], bytes);
    lanes = exp_of((lanes - max_logit) / temperature);
    std::memcpy(&weights[i], &lanes, bytes);
  };
  size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes) weigh_lanes(i, sizeof(Lanes));
  if (i < logits.size()) weigh_lanes(i, (logits.size() - i) * sizeof(float));
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

void SamplerParams::validate() const {
  const auto require = [](bool good, const char* what) {
    if (!good) throw Error(ErrorCode::invalid_request, what);
  };
  require(temperature >= 0.0f, "temperature must not be negative");
  require(top_p > 0.0f && top_p <= 1.0f, "top_p must be in (0, 1]");
  require(min_p >= 0.0f && min_p <= 1.0f, "min_p must be in [0, 1]");
  require(top_k >= 0, "top_k must not be negative");
  require(repetition_penalty >= kMinRepetitionPenalty, "repetition_penalty is too small");
  require(std::isfinite(frequency_penalty), "frequency_penalty must be finite");
  require(std::isfinite(presence_penalty), "presence_penalty must be finite");
  dry.validate();
}

Sampler::Sampler(int32_t vocab_size, std::array<int32_t, 2> exempt)
    : exempt_(exempt), seen_(static_cast<size_t>(vocab_size), 0), weights_(static_cast<size_t>(vocab_size)) {
  candidates_.reserve(static_cast<size_t>(vocab_size));
}

int32_t Sampler::sample(std::span<float> logits, const SamplerParams& params,
                        std::span<const std::span<const int32_t>> path, int32_t prompt_tokens, uint64_t key,
                        int32_t position) {
  if (params.repetition_penalty != 1.0f) penalise_seen(logits, params, path);
  if (params.frequency_penalty != 0.0f || params.presence_penalty != 0.0f)
    penalise_generated(logits, params, path, prompt_tokens);
  if (params.dry.on()) dry_.apply(logits, params.dry, path);
  const int32_t best = argmax(logits);
  if (best < 0 || params.temperature <= 0.0f) return best;
  return sample_weighted(logits, logits[static_cast<size_t>(best)], params, uniform_at(key, position));
}

void Sampler::new_stamp() {
  if (++stamp_ != 0) return;
  std::fill(seen_.begin(), seen_.end(), 0);
  stamp_ = 1;
}

bool Sampler::is_exempt(int32_t token, const SamplerParams& params) const {
  const auto& kept = params.unpenalised;
  const auto i = static_cast<size_t>(token);
  return token == exempt_[0] || token == exempt_[1] || (kept && i < kept->size() && (*kept)[i]);
}

void Sampler::penalise_seen(std::span<float> logits, const SamplerParams& params,
                            std::span<const std::span<const int32_t>> path) {
  const float penalty = params.repetition_penalty;
  new_stamp();
  for (const auto& tokens : path) {
    for (const int32_t token : tokens) {
      const auto i = static_cast<size_t>(token);
      if (seen_[i] == stamp_ || is_exempt(token, params)) continue;
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
      if (is_exempt(token, params)) continue;
      logits[i] -= params.frequency_penalty;
      if (seen_[i] == stamp_) continue;
      seen_[i] = stamp_;
      logits[i] -= params.presence_penalty;
    }
  }
}

int32_t Sampler::sample_weighted(std::span<const float> logits, float max_logit, const SamplerParams& params,
                                 double uniform) {
  // min-p is relative to the most likely token: exp((l - max) / T) >= min_p.
  weigh(logits, max_logit, params.temperature, weights_);
  const float least = std::max(params.min_p, std::numeric_limits<float>::min());
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i)
    if (weights_[i] >= least) candidates_.push_back({weights_[i], static_cast<int32_t>(i)});
  const auto more_likely = [](const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
  };
  const auto sum = [this] {
    double total = 0.0;
    for (const Candidate& c : candidates_) total += c.weight;
    return total;
  };
  double total = sum();
  const auto top_k = static_cast<size_t>(params.top_k);
  if (top_k > 0 && top_k < candidates_.size()) {
    std::nth_element(candidates_.begin(), candidates_.begin() + params.top_k, candidates_.end(), more_likely);
    candidates_.resize(top_k);
  } else if (params.top_p < 1.0f) {
    // Sorting a whole vocabulary takes longer than a small model's step. All tokens beyond top-p have
    // together a weight of (1 - top_p) of the total; so a token below that part of the mean weight is one of
    // them.
    const double mean = total / static_cast<double>(candidates_.size());
    const double enough = kRounding * (1.0 - params.top_p) * mean;
    std::erase_if(candidates_, [enough](const Candidate& c) { return c.weight < enough; });
  }
  // top-p needs sorted candidates; after nth_element their order would depend on the standard library.
  if (params.top_p < 1.0f || top_k > 0) std::sort(candidates_.begin(), candidates_.end(), more_likely);
  if (top_k > 0) total = sum();
  if (params.top_p < 1.0f) {
    const double limit = total * params.top_p;
    double reached = 0.0;
    size_t kept = 0;
    while (kept < candidates_.size() && reached < limit) reached += candidates_[kept++].weight;
    candidates_.resize(std::max<size_t>(kept, 1));
    total = sum();
  }
  double rest = uniform * total;
  for (const Candidate& c : candidates_) {
    rest -= c.weight;
    if (rest < 0.0) return c.token;
  }
  return candidates_.back().token;
}

}  // namespace apar
