#pragma once

#include <list>
#include <span>

#include "core/branch_policy.h"
#include "core/step_time.h"

namespace apar {

// Lets a branch fork unless the steps that become longer by it would make another request late
// (docs/adr/0072): a request's nth token behind its first one is due n * `token_seconds` after that. As TAPER
// (arXiv 2605.06914), which regulates branches at each step: here at each fork, because what is refused goes
// on serially.
//
// A request may use up its slack, by which it is ahead of its deadlines, over kHorizon steps; how many tokens
// it gets in a step is how many of its branches decode. A late one should not fall behind further. One that
// would do so without the fork, too, does not count: it is the number of requests that makes steps too long
// then, and answers that fork end sooner.
//
// A request that cannot keep the deadline of its first token is late: the scheduler prefers those that can.
class DeadlinePolicy : public BranchPolicy {
 public:
  explicit DeadlinePolicy(const Deadlines& deadlines) : deadlines_(deadlines) {}

  void step_begins(std::list<Request>& requests, double now) override;
  bool may_fork(const Request& request, const Branch& branch, const EngineLoad& load) const override;
  void step_ran(std::list<Request>& requests, const StepBatch& batch, std::span<const RequestBranch> samples,
                const StepRun& run) override;
  void forked() override { ++forks_; }

  // About as many as a branch has tokens.
  static constexpr int32_t kHorizon = 32;

 private:
  void update_pace(Request& request, double now) const;
  double longest_step(const RequestPace& pace) const;

  const Deadlines deadlines_;
  StepTime time_;
  StepWork next_;      // of the next step, if nothing forks or ends
  int32_t forks_ = 0;  // since the step has run
  // The longest step that the request with the least time allows, and that the others allow.
  const Request* tightest_ = nullptr;
  double least_ = 0, second_ = 0;
};

}  // namespace apar
