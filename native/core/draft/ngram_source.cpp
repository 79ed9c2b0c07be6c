#include "core/draft/ngram_source.h"

#include <algorithm>

#include "core/draft/acceptance.h"

namespace apar {

// Each accepted candidate makes the match one token longer, so candidates are compared by the length of the
// match that they would continue.
void NgramSource::propose(int32_t branch, int32_t max_depth, std::vector<Candidate>& out) {
  out.clear();
  const int32_t count = std::min(max_depth, kMaxDepth);
  if (count <= 0) return;
  const int32_t matched = index_.continue_text(branch, static_cast<size_t>(count), tokens_);
  for (int32_t depth = 0; depth < static_cast<int32_t>(tokens_.size()); ++depth) {
    const int32_t length = std::min(matched + depth, AcceptanceRates::kBuckets - 1);
    const float prior = static_cast<float>(length) / static_cast<float>(length + 1);
    out.push_back({tokens_[static_cast<size_t>(depth)], depth - 1, depth, length, prior});
  }
}

}  // namespace apar
