#pragma once

#include "core/request.h"

namespace apar {

// Whether a branch may fork now; if not, [Fork] is banned and the text goes on serially in the same branch.
// Only the request's own state counts: when the whole batch is full, a child waits for its turn instead, so
// that what else runs never changes a text.
inline bool may_fork(const Request& request, const Branch& branch) {
  return branch.depth < request.params.max_depth &&
         static_cast<int32_t>(request.live.size()) < request.params.max_branches &&
         request.budget() >= 3;  // [Fork], [Child] and a first token of the detail
}

}  // namespace apar
