#include "grammar/trial.h"

#include <algorithm>
#include <bit>
#include <ctime>

#include "common/error.h"

namespace apar {
namespace {

constexpr size_t kBits = 32;
constexpr int kAnswers = 4, kTokens = 48;
constexpr double kMostSeconds = 0.02, kMostSecondsInTheMean = 0.001;

// Of this thread, whatever else the machine does.
double cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

}  // namespace

Trial::Trial(const TokenText& text, const std::vector<int32_t>& ends)
    : text_(text),
      ends_(ends),
      mask_((text.offsets.size() - 1 + kBits - 1) / kBits),
      last_word_(static_cast<int32_t>(~uint32_t{0} >> (mask_.size() * kBits - (text.offsets.size() - 1)))) {}

void Trial::try_masks(const Grammar& grammar) {
  const auto refuse = [] {
    throw Error(ErrorCode::invalid_request, "is too complex: its tokens take too long to check");
  };
  double total = 0;
  int steps = 0;
  for (int answer = 0; answer < kAnswers; ++answer) {
    const auto matcher = grammar.matcher();
    for (int at = 0; at < kTokens; ++at) {
      const double begun = cpu_seconds();
      matcher->fill(mask_);
      double seconds = cpu_seconds() - begun;
      const int32_t token = draw(0.0);
      if (token < 0 || ends(token)) break;
      const double accepting = cpu_seconds();
      const bool accepted = matcher->accept(token);
      seconds += cpu_seconds() - accepting;
      total += seconds;
      ++steps;
      if (seconds > kMostSeconds) refuse();
      if (!accepted) break;
    }
  }
  if (total > std::max(1, steps) * kMostSecondsInTheMean) refuse();
}

std::optional<std::string> Trial::answer(const Grammar& grammar, int max_tokens) {
  const auto matcher = grammar.matcher();
  std::string answer;
  for (int at = 0; at < max_tokens; ++at) {
    matcher->fill(mask_);
    const int32_t token = draw(0.5);
    if (token < 0) return std::nullopt;
    if (ends(token)) return answer;
    const auto bytes = text_.of(token);
    answer.append(bytes.begin(), bytes.end());
    if (!matcher->accept(token)) return std::nullopt;
  }
  return std::nullopt;
}

int32_t Trial::draw(double end) {
  mask_.back() &= last_word_;
  if (end > 0 && std::generate_canonical<double, 32>(random_) < end) {
    for (const int32_t token : ends_) {
      const auto i = static_cast<size_t>(token);
      if ((static_cast<uint32_t>(mask_[i / kBits]) >> i % kBits & 1) != 0) return token;
    }
  }
  uint32_t count = 0;
  for (const int32_t word : mask_) count += static_cast<uint32_t>(std::popcount(static_cast<uint32_t>(word)));
  if (count == 0) return -1;
  uint32_t rest = random_() % count;
  for (size_t word = 0;; ++word) {
    auto bits = static_cast<uint32_t>(mask_[word]);
    for (; rest > 0 && bits != 0; --rest) bits &= bits - 1;
    if (bits != 0) return static_cast<int32_t>(word * kBits) + std::countr_zero(bits);
  }
}

bool Trial::ends(int32_t token) const {
  return std::find(ends_.begin(), ends_.end(), token) != ends_.end();
}

}  // namespace apar
