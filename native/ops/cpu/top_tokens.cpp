#include "ops/cpu/top_tokens.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace apar::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Tokens come in ascending order, so that of equal logits the first one stays first.
void insert(std::span<TokenLogit> top, TokenLogit one) {
  size_t at = top.size() - 1;
  for (; at > 0 && one.logit > top[at - 1].logit; --at) top[at] = top[at - 1];
  top[at] = one;
}

// Returns whether a logit is NaN.
bool insert_all(std::span<TokenLogit> top, const float* logits, int64_t begin, int64_t end) {
  float least = top.back().logit;
  bool has_nan = false;
  for (int64_t token = begin; token < end; ++token) {
    has_nan |= std::isnan(logits[token]);
    if (!(logits[token] > least)) continue;
    insert(top, {static_cast<int32_t>(token), logits[token]});
    least = top.back().logit;
  }
  return has_nan;
}

}  // namespace

// The kernel's softmax writes whole vectors: the tokens behind the last whole one are summed here.
float top_tokens(const Kernels& kernels, float* logits, int64_t count, std::span<TokenLogit> top) {
  constexpr int64_t kVector = 16;
  const int64_t whole = count / kVector * kVector;
  std::ranges::fill(top, TokenLogit{-1, -kInfinity});
  bool has_nan = insert_all(top, logits, 0, whole);
  const float whole_max = top.front().logit;
  has_nan |= insert_all(top, logits, whole, count);
  const float max = top.front().logit;
  if (has_nan || max == kInfinity) return std::numeric_limits<float>::quiet_NaN();
  float sum = whole_max > -kInfinity ? kernels.softmax(logits, whole) * std::exp(whole_max - max) : 0;
  for (int64_t token = whole; token < count; ++token)
    if (logits[token] > -kInfinity) sum += std::exp(logits[token] - max);
  return max + std::log(sum);
}

}  // namespace apar::cpu
