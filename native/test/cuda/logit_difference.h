#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

namespace apar::test {

using Logits = std::vector<std::vector<float>>;  // per branch, as run_tree() returns them

// Which rows of a run are compared: all of them, or those whose first logit is not NaN. run_tree() returns
// NaN for rows whose logits were not requested.
enum class Computed : uint8_t { all, some };

struct LogitDifference {
  int rows = 0;       // compared
  int different = 0;  // rows that differ in any bit
  double worst = 0;   // the largest difference over the largest logit; infinity if any logit is NaN
  double rms = 0;     // root mean square of the difference over that of the logits
};

// Calls body(row, got, want) with the logits of every compared row. `want` has all rows.
template <class Body>
void for_each_row(const Logits& got, const Logits& want, size_t vocab, Computed computed, Body body) {
  int32_t row = 0;
  for (size_t branch = 0; branch < want.size(); ++branch) {
    for (size_t at = 0; at < want[branch].size(); at += vocab) {
      const std::span<const float> is = std::span(got[branch]).subspan(at, vocab);
      if (computed == Computed::some && std::isnan(is[0])) continue;
      body(row++, is, std::span(want[branch]).subspan(at, vocab));
    }
  }
}

inline LogitDifference compare(const Logits& got, const Logits& want, size_t vocab,
                               Computed computed = Computed::all) {
  LogitDifference found;
  double largest = 0, squares = 0, square_differences = 0;
  for_each_row(got, want, vocab, computed,
               [&](int32_t, std::span<const float> is, std::span<const float> expected) {
                 ++found.rows;
                 found.different += std::memcmp(is.data(), expected.data(), vocab * sizeof(float)) != 0;
                 for (size_t i = 0; i < vocab; ++i) {
                   largest = std::max(largest, std::abs(double{expected[i]}));
                   const double difference = double{is[i]} - expected[i];
                   if (!(std::abs(difference) <= found.worst)) found.worst = std::abs(difference);
                   if (std::isnan(found.worst)) found.worst = std::numeric_limits<double>::infinity();
                   squares += double{expected[i]} * expected[i];
                   square_differences += difference * difference;
                 }
               });
  found.worst /= largest;
  found.rms = std::sqrt(square_differences / squares);
  return found;
}

}  // namespace apar::test
