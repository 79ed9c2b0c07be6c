// A request whose answer is given: what it must be, and what comes where the sampler chooses a token.
#include <string>

#include "common/error.h"
#include "core/decoder.h"

namespace apar {

void Decoder::validate_forced(const RequestParams& params) const {
  if (params.forced.empty()) return;
  const auto require = [](bool good, const std::string& what) {
    if (!good) throw Error(ErrorCode::invalid_request, "forced: " + what);
  };
  require(params.grammar == nullptr, "a grammar excludes it");
  require(params.branches.empty(), "it cannot go on on another engine");
  const ControlTokens& tokens = config_.tokens;
  const std::string problem =
      ForcedAnswer::problem(params.forced, tokens.fork, tokens.child, model_.config().vocab_size);
  require(problem.empty(), problem);
}

// The token of the forced answer instead of a sampled one. A list ends as a branch does whose model says EOS.
void Decoder::on_forced_token(Request& request, Branch& branch, std::vector<Event>& events) {
  std::optional<int32_t> token = branch.forced->next();
  while (token && *token == config_.tokens.fork &&
         (follows_control_token(branch) || !may_fork(request, branch))) {
    ++forks_refused_;
    branch.forced->refuse_fork();
    token = branch.forced->next();
  }
  if (token) {
    if (!waits_to_fork(request, branch, *token)) on_token(request, branch, *token, events);
    return;
  }
  branch.decided_at = branch.time();
  const auto& ends = config_.tokens.eos;
  end_branch(request, branch, FinishReason::stop, events, ends.empty() ? -1 : ends.front());
}

}  // namespace apar
