#pragma once

#include <cstdint>
#include <memory>

#include "core/request.h"

namespace apar {

// What a policy may know of the engine beside the request itself.
struct EngineLoad {
  int32_t live_branches = 0;  // of all requests, waiting ones included
  int32_t max_branches = 0;   // that run at once
  double step_seconds = 0;    // what a step takes at present, 0 before the first
};

// Decides whether a branch may fork now. If not, [Fork] is banned and the text goes on serially in the same
// branch. The request's own limits (depth, branches, tokens) hold before any policy is asked.
class BranchPolicy {
 public:
  virtual ~BranchPolicy() = default;
  virtual bool may_fork(const Request& request, const Branch& branch, const EngineLoad& load) const = 0;
};

enum class PolicyKind : uint8_t {
  eager,   // always: when the batch is full, a child waits, so what else runs never changes a text
  capped,  // as APAR's reference: not when as many branches live as can run
  serial,  // never
};

std::unique_ptr<BranchPolicy> make_policy(PolicyKind kind);

// The request's own limits.
bool within_limits(const Request& request, const Branch& branch);

}  // namespace apar
