#pragma once

#include <cstdint>

namespace apar {

// Where candidates come from. The values are shared with TypeScript (gpu-node/engine/engine-events.ts).
enum class DraftKind : uint8_t { heads = 1, ngrams = 2 };

// A guess at a token of a branch's answer. The candidates of a branch form a tree: several can compete for
// one position. A step computes the rows of all of them, and accepts those that the branch samples anyway.
struct Candidate {
  int32_t token = -1;
  int32_t parent = -1;  // index of the candidate before it, smaller than its own; -1: the branch's last token
  int32_t depth = 0;    // how many candidates are before it
  int32_t bucket = 0;   // candidates of a source with the same bucket share statistics (acceptance.h)
  float prior = 0;      // probability that it is accepted once those before it are, while there are none
};

}  // namespace apar
