#include "core/constraint.h"

#include <algorithm>
#include <bit>
#include <exception>
#include <limits>

namespace apar {
namespace {

constexpr size_t kBits = 32;

}  // namespace

Constraint::Constraint(const Grammar& grammar, int32_t vocab_size)
    : matcher_(grammar.matcher()),
      mask_((static_cast<size_t>(vocab_size) + kBits - 1) / kBits),
      last_word_(
          static_cast<int32_t>(~uint32_t{0} >> (mask_.size() * kBits - static_cast<size_t>(vocab_size)))) {}

void Constraint::accept(int32_t token) {
  prepared_ = false;
  try {
    failed_ = failed_ || !matcher_->accept(token);
  } catch (const std::exception&) {
    failed_ = true;
  }
}

void Constraint::prepare() {
  if (prepared_) return;
  prepared_ = true;
  // A failure of the grammar engine ends its request only.
  try {
    if (!failed_) matcher_->fill(mask_);
  } catch (const std::exception&) {
    failed_ = true;
  }
  if (failed_) std::fill(mask_.begin(), mask_.end(), 0);
  mask_.back() &= last_word_;
}

void Constraint::apply(std::span<float> logits) const {
  constexpr float minus_inf = -std::numeric_limits<float>::infinity();
  for (size_t word = 0; word < mask_.size(); ++word) {
    const auto tokens = logits.subspan(word * kBits, std::min(kBits, logits.size() - word * kBits));
    const auto allowed = static_cast<uint32_t>(mask_[word]);
    if (allowed == 0) {
      std::fill(tokens.begin(), tokens.end(), minus_inf);
    } else if (allowed != ~uint32_t{0}) {
      // Without a branch, which would be mispredicted.
      for (size_t bit = 0; bit < tokens.size(); ++bit)
        tokens[bit] = (allowed >> bit & 1) == 0 ? minus_inf : tokens[bit];
    }
  }
}

bool Constraint::allows_other_than(std::span<const int32_t> ends) const {
  int64_t allowed = 0;
  for (const int32_t word : mask_) allowed += std::popcount(static_cast<uint32_t>(word));
  for (const int32_t end : ends) allowed -= allows(end) ? 1 : 0;
  return allowed > 0;
}

bool Constraint::allows(int32_t token) const {
  const auto i = static_cast<size_t>(token);
  return (static_cast<uint32_t>(mask_[i / kBits]) >> i % kBits & 1) != 0;
}

}  // namespace apar
