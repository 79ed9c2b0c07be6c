#pragma once

#include <algorithm>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "core/decoder.h"
#include "transcript.h"

namespace apar {

// Returns "" if every token of every branch is the one that greedy serial decoding gives after the path
// before it: the token with the highest logit that is not masked. Otherwise returns the first mismatch.
// `logits_after(path, first)` returns the logits after path[0..n) for n = first ... path.size(), as
// [n - first][vocab]. [Fork] is also masked when too few tokens are left for a child, which can happen only
// in a request that comes within two tokens of its limit.
template <typename LogitsAfter>
std::string serial_mismatch(const Transcript& transcript, const RequestParams& params,
                            const ControlTokens& tokens, LogitsAfter&& logits_after) {
  constexpr float minus_inf = -std::numeric_limits<float>::infinity();
  const bool near_limit = transcript.tokens >= params.max_tokens - 2;
  for (const auto& [id, branch] : transcript.branches) {
    if (id != kRootBranch && branch.path[branch.own_from] != tokens.child)
      return "a child does not begin with [Child]";
    const size_t first = branch.own_from + (id == kRootBranch ? 0 : 1);
    std::vector<std::vector<float>> all = logits_after(std::span<const int32_t>(branch.path), first);
    for (size_t at = first; at <= branch.path.size(); ++at) {
      const bool ended = at == branch.path.size();
      if (ended && branch.reason != FinishReason::stop) break;
      std::vector<float>& logits = all[at - first];
      const auto argmax = [&] {
        return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
      };
      float& fork = logits[static_cast<size_t>(tokens.fork)];
      logits[static_cast<size_t>(tokens.child)] = minus_inf;
      const int32_t last = branch.path[at - 1];
      if (last == tokens.fork || last == tokens.child || transcript.depth(id) >= params.max_depth)
        fork = minus_inf;
      int32_t best = argmax();
      if (near_limit && best == tokens.fork && (ended || branch.path[at] != tokens.fork)) {
        fork = minus_inf;
        best = argmax();
      }
      const bool right = ended ? std::find(tokens.eos.begin(), tokens.eos.end(), best) != tokens.eos.end()
                               : branch.path[at] == best;
      if (!right) return "branch " + std::to_string(id) + " at token " + std::to_string(at);
    }
  }
  return "";
}

}  // namespace apar
