#include "grammar/trial.h"

#include <algorithm>
#include <bit>
#include <ctime>
#include <random>
#include <vector>

#include "common/error.h"

namespace apar {
namespace {

constexpr int kAnswers = 4, kTokens = 48;
constexpr double kMostSeconds = 0.02, kMostSecondsInTheMean = 0.001;

// Of this thread, whatever else the machine does.
double cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// A random token of the mask; -1 if it has none.
int32_t draw(const std::vector<int32_t>& mask, std::mt19937& random) {
  int32_t count = 0;
  for (const int32_t word : mask) count += std::popcount(static_cast<uint32_t>(word));
  if (count == 0) return -1;
  int32_t rest = static_cast<int32_t>(random() % static_cast<uint32_t>(count));
  for (size_t word = 0;; ++word) {
    auto bits = static_cast<uint32_t>(mask[word]);
    for (; rest > 0 && bits != 0; --rest) bits &= bits - 1;
    if (bits == 0) continue;
    return static_cast<int32_t>(word * 32) + std::countr_zero(bits);
  }
}

bool contains(const std::vector<int32_t>& values, int32_t value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

}  // namespace

void try_masks(const Grammar& grammar, int32_t vocab_size, const std::vector<int32_t>& ends) {
  std::mt19937 random(1);
  std::vector<int32_t> mask((static_cast<size_t>(vocab_size) + 31) / 32);
  // The bits that are tokens.
  const auto last_word =
      static_cast<int32_t>(~uint32_t{0} >> (mask.size() * 32 - static_cast<size_t>(vocab_size)));
  double total = 0;
  int steps = 0;
  const auto refuse = [] {
    throw Error(ErrorCode::invalid_request, "is too complex: its tokens take too long to check");
  };
  for (int answer = 0; answer < kAnswers; ++answer) {
    const auto matcher = grammar.matcher();
    for (int at = 0; at < kTokens; ++at) {
      const double begun = cpu_seconds();
      matcher->fill(mask);
      double seconds = cpu_seconds() - begun;
      mask.back() &= last_word;
      const int32_t token = draw(mask, random);
      if (token < 0 || contains(ends, token)) break;
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

}  // namespace apar
