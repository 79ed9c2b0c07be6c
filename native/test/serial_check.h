#pragma once

#include <algorithm>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "core/decoder.h"
#include "transcript.h"

namespace apar {

// Greedy serial decoding by definition, "" or where a text departs from it: after each prefix of a branch's
// path comes its likeliest token that the rules allow. `follow(path, first)` gives the logits that follow
// path[0..n) for n = first ... path.size(), [n - first][vocab]. Near the request's length limit [Fork] is
// banned for want of room; a request that got there may have met that ban.
template <typename Follow>
std::string serial_fault(const Transcript& transcript, const RequestParams& params,
                         const ControlTokens& tokens, Follow&& follow) {
  constexpr float never = -std::numeric_limits<float>::infinity();
  const bool cut = transcript.tokens >= params.max_tokens - 2;
  for (const auto& [id, branch] : transcript.branches) {
    if (id != kRootBranch && branch.path[branch.own_from] != tokens.child) return "a child without [Child]";
    const size_t first = branch.own_from + (id == kRootBranch ? 0 : 1);
    std::vector<std::vector<float>> all = follow(std::span<const int32_t>(branch.path), first);
    for (size_t at = first; at <= branch.path.size(); ++at) {
      const bool ended = at == branch.path.size();
      if (ended && branch.reason != FinishReason::stop) break;
      std::vector<float>& logits = all[at - first];
      const auto likeliest = [&] {
        return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
      };
      float& fork = logits[static_cast<size_t>(tokens.fork)];
      logits[static_cast<size_t>(tokens.child)] = never;
      const int32_t last = branch.path[at - 1];
      if (last == tokens.fork || last == tokens.child || transcript.depth(id) >= params.max_depth)
        fork = never;
      int32_t best = likeliest();
      if (cut && best == tokens.fork && (ended || branch.path[at] != tokens.fork)) {
        fork = never;
        best = likeliest();
      }
      const bool right = ended ? std::find(tokens.eos.begin(), tokens.eos.end(), best) != tokens.eos.end()
                               : branch.path[at] == best;
      if (!right) return "branch " + std::to_string(id) + " at token " + std::to_string(at);
    }
  }
  return "";
}

}  // namespace apar
