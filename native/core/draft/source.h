#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/draft.h"
#include "core/draft/candidate.h"

namespace apar {

// Proposes candidates for the branches of one request. Branches are numbered as in the request.
class DraftSource {
 public:
  virtual ~DraftSource() = default;
  virtual DraftKind kind() const = 0;

  // `tokens` follow the branch's text so far. The prompt is the beginning of branch 0's.
  virtual void append(int32_t branch, std::span<const int32_t> tokens) = 0;
  // What the model's heads predict for the tokens after the branch's last one: [heads, top_k], most likely
  // first.
  virtual void predicted(int32_t /*branch*/, std::span<const DraftCandidate> /*heads*/, int32_t /*top_k*/) {}
  // The branch has ended.
  virtual void end(int32_t /*branch*/) {}

  // Replaces `out` by candidates for the tokens after the branch's last one, parents before children, at most
  // `max_depth` one after another.
  virtual void propose(int32_t branch, int32_t max_depth, std::vector<Candidate>& out) = 0;
};

}  // namespace apar
