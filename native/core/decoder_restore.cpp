// Restores a request that was started on another engine, or that begins with branches: builds its branch
// tree. The next steps compute the K and V that its live branches need, each shared prefix once.
#include <string>
#include <unordered_map>

#include "common/error.h"
#include "core/decoder.h"
#include "core/virtual_order.h"

namespace apar {
namespace {

// An engine numbers the branches of a request from 0 without gaps; no context has room for this many forks.
constexpr int32_t kMaxBranchId = 1 << 16;

}  // namespace

void Decoder::validate_branches(const RequestParams& params) const {
  const auto& branches = params.branches;
  if (branches.empty()) return;
  const auto require = [](bool good, const std::string& what) {
    if (!good) throw Error(ErrorCode::invalid_request, "branches: " + what);
  };
  struct Known {
    const RestoredBranch* branch;
    int64_t start;      // position of the first own token
    int64_t last_fork;  // position of the last child's [Fork]; -1 without children
    int32_t depth;      // of the root: 1
  };
  std::unordered_map<int32_t, Known> known;
  const ControlTokens& tokens = config_.tokens;
  const int64_t context = model_.config().context_tokens;
  const bool marked = params.grammar == nullptr;  // forks are tokens, so each has a place of its own
  int64_t generated = 0;
  int32_t last_id = -1;
  bool live = false;
  for (const RestoredBranch& branch : branches) {
    const bool ended = branch.ended != FinishReason::none;
    const std::string name = std::to_string(branch.id);
    const auto own = static_cast<int64_t>(branch.tokens.size());
    for (const int32_t token : branch.tokens) {
      require(token >= 0 && token < model_.config().vocab_size, name + " has a token outside the vocabulary");
    }
    require(branch.id > last_id && branch.id <= kMaxBranchId,
            "ids must be ascending and at most " + std::to_string(kMaxBranchId));
    int64_t start = static_cast<int64_t>(params.prompt.size());
    int32_t depth = 1;
    if (last_id < 0) {
      require(branch.id == kRootBranch && branch.parent == -1, "the first one must be the root");
    } else {
      const auto found = known.find(branch.parent);
      require(found != known.end(), name + " has an unknown parent");
      Known& parent = found->second;
      const int64_t at = branch.fork_position - parent.start;
      require(branch.fork_position >= parent.last_fork + (marked ? 1 : 0),
              name + " forks before an earlier branch, or where it does");
      require(at >= 0 && at < static_cast<int64_t>(parent.branch->tokens.size()),
              name + " forks outside its parent's own tokens");
      if (marked) {
        require(tokens.fork >= 0 && parent.branch->tokens[static_cast<size_t>(at)] == tokens.fork,
                name + " has no [Fork] at its fork position");
        require(own > 0 && branch.tokens.front() == tokens.child, name + " does not begin with [Child]");
      }
      parent.last_fork = branch.fork_position;
      start = branch.fork_position + 1;
      depth = parent.depth + 1;
      require(depth <= params.max_depth, name + " is deeper than max_depth");
    }
    require(start + own < context + (ended ? 1 : 0), name + " fills the model's context");
    require(ended || params.max_branch_tokens == 0 || own < params.max_branch_tokens,
            name + " has reached max_branch_tokens");
    known.emplace(branch.id, Known{&branch, start, -1, depth});
    generated += own;
    last_id = branch.id;
    live = live || !ended;
  }
  require(live, "all branches have ended");
  require(generated < params.max_tokens, "max_tokens is used up");
}

// On entry the root exists and has the prompt. Children have larger ids than their parents and are sorted by
// fork position, so one pass in order of id builds the path above a branch before the branch itself.
void Decoder::restore(Request& request) {
  const auto& restored = request.params.branches;
  std::unordered_map<int32_t, std::vector<const RestoredBranch*>> children;
  for (const RestoredBranch& from : restored) children[from.parent].push_back(&from);

  request.branches.resize(static_cast<size_t>(restored.back().id) + 1);
  for (size_t id = 0; id < request.branches.size(); ++id) {
    request.branches[id].id = static_cast<int32_t>(id);
    request.branches[id].state = BranchState::ended;  // for ids that are not restored below: they are in use
                                                      // and will not be given again
  }
  request.live.clear();
  request.recent.clear();
  for (const RestoredBranch& from : restored) {
    Branch& branch = request.branches[static_cast<size_t>(from.id)];
    branch.generated = static_cast<int32_t>(from.tokens.size());
    request.generated += branch.generated;
    if (!from.tokens.empty()) branch.last_token = from.tokens.back();
    if (request.source != nullptr) request.source->append(from.id, from.tokens);
    branch.stop.begin(request.stops, from.id == kRootBranch && config_.text.drops_leading_space);
    bool stopped = false;
    for (const int32_t token : from.tokens) stopped = completes_stop(request, branch, token);
    // An EOS token is not among the tokens.
    const bool without_token = from.ended == FinishReason::stop && !stopped;
    branch.decided_at = branch.time() - (without_token ? 0 : 1);

    std::span<const int32_t> tokens = from.tokens;
    const int32_t start = tree_.at(branch.tail).end();  // position of the first own token
    int32_t siblings = 0;                               // that fork at the same place
    for (const RestoredBranch* below : children[from.id]) {
      const auto count = static_cast<size_t>(below->fork_position + 1 - tree_.at(branch.tail).end());
      Branch& child = request.branches[static_cast<size_t>(below->id)];
      begin_child(branch, below->fork_position - start, below->fork_position, child);
      if (count == 0) {
        child.tail = tree_.add_child(tree_.at(branch.tail).parent);
        child.key = child_key(child.key, ++siblings);
        continue;
      }
      siblings = 0;
      tree_.append(branch.tail, tokens.first(count));
      tokens = tokens.subspan(count);
      const NodeId above = branch.tail;
      child.tail = tree_.add_child(above);
      branch.tail = tree_.add_continuation(above);
      tree_.release(above);
    }
    tree_.append(branch.tail, tokens);
    if (from.ended == FinishReason::length) request.outcome = FinishReason::length;
    request.recent.push_back(&branch);
    if (from.ended != FinishReason::none) continue;
    branch.state = BranchState::waiting;
    constrain(request, branch);
    request.live.push_back(&branch);
  }
  for (const RestoredBranch& from : restored) {
    if (from.ended == FinishReason::none) continue;
    Branch& branch = request.branches[static_cast<size_t>(from.id)];
    tree_.release(branch.tail);
    branch.tail = kNoNode;
  }
}

}  // namespace apar
