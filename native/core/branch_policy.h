#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <span>

#include "common/step_batch.h"
#include "core/request.h"

namespace apar {

// The engine's state that a policy may use, besides the request itself.
struct EngineLoad {
  int32_t live_branches = 0;  // of all requests, including waiting branches
  int32_t max_branches = 0;   // that a step samples
  double step_seconds = 0;    // moving average of the step time; 0 before the first step
};

// When a step has run.
struct StepRun {
  double seconds = 0;   // that its forward pass took
  double ended_at = 0;  // by the decoder's clock
};

// Of the policy `deadline`, in seconds.
struct Deadlines {
  double token = 0;        // from one token of a request to the next; > 0
  double first_token = 0;  // from the request to its first token; 0: none
};

// Decides whether a branch may fork now. If not, the logit of [Fork] is masked and decoding continues
// serially in the same branch. The request's own limits (depth, branches, tokens) are checked first.
class BranchPolicy {
 public:
  virtual ~BranchPolicy() = default;
  // Before each step: marks the requests that are late.
  virtual void step_begins(std::list<Request>&, double /*now*/) {}
  virtual bool may_fork(const Request& request, const Branch& branch, const EngineLoad& load) const = 0;
  // After each forward pass, before its samples may fork.
  virtual void step_ran(std::list<Request>&, const StepBatch&, std::span<const RequestBranch> /*samples*/,
                        const StepRun&) {}
  // A branch has forked.
  virtual void forked() {}
};

enum class PolicyKind : uint8_t {
  eager,     // always; in a full batch the child takes turns, so other requests never change a text
  capped,    // as in APAR's reference code: only while fewer branches are live than may run at once, so texts
             // depend on the load
  serial,    // never
  deadline,  // while all requests keep their token deadlines (deadline_policy.h); texts depend on the load
};

// Throws Error{invalid_config} for the policy `deadline` without a token deadline.
std::unique_ptr<BranchPolicy> make_policy(PolicyKind kind, const Deadlines& deadlines);

// Whether the request's own limits (depth, branches, tokens) allow `branch` to fork.
bool within_limits(const Request& request, const Branch& branch);

}  // namespace apar
