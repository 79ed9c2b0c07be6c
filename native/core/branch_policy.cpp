#include "core/branch_policy.h"

#include "common/error.h"
#include "core/deadline_policy.h"
#include "core/virtual_order.h"

namespace apar {
namespace {

// [Fork], [Child] and the child's first token.
constexpr int32_t kForkTokens = 3;

struct Eager : BranchPolicy {
  bool may_fork(const Request&, const Branch&, const EngineLoad&) const override { return true; }
};
struct Capped : BranchPolicy {
  bool may_fork(const Request&, const Branch&, const EngineLoad& load) const override {
    return load.live_branches < load.max_branches;
  }
};
struct Serial : BranchPolicy {
  bool may_fork(const Request&, const Branch&, const EngineLoad&) const override { return false; }
};

}  // namespace

bool within_limits(const Request& request, const Branch& branch) {
  return branch.depth < request.params.max_depth &&
         (static_cast<int32_t>(request.branches.size()) < request.params.max_branches ||
          live_at(request, branch) < request.params.max_branches) &&
         request.remaining_tokens() >= kForkTokens;
}

std::unique_ptr<BranchPolicy> make_policy(PolicyKind kind, const Deadlines& deadlines) {
  switch (kind) {
    case PolicyKind::eager:
      return std::make_unique<Eager>();
    case PolicyKind::capped:
      return std::make_unique<Capped>();
    case PolicyKind::serial:
      return std::make_unique<Serial>();
    case PolicyKind::deadline:
      if (!(deadlines.token > 0))
        throw Error(ErrorCode::invalid_config, "the policy deadline needs a token deadline above 0");
      return std::make_unique<DeadlinePolicy>(deadlines);
  }
  throw Error(ErrorCode::invalid_config, "unknown branch policy");
}

}  // namespace apar
