#include "core/virtual_order.h"

#include <algorithm>
#include <utility>

namespace apar {
namespace {

// A fork takes two tokens and needs three (within_limits), and so does each fork behind it.
constexpr int64_t kReserve = 5;

using Moment = std::pair<int32_t, int32_t>;  // virtual time, id

Moment next(const Branch& branch) {
  return {branch.time(), branch.id};
}

bool is_behind(const Branch& other, const Branch& branch, When when) {
  const bool comes_forward = when == When::next_step && other.ready && other.gate == Gate::open;
  if (comes_forward && other.time() == branch.time()) return false;
  return next(other) < next(branch);
}

bool ended_before(const Branch& branch, const Moment& moment) {
  return branch.state == BranchState::ended && Moment(branch.decided_at, branch.id) < moment;
}

bool can_fork(const Request& request, const Branch& branch) {
  return branch.constraint == nullptr && branch.depth < request.params.max_depth &&
         request.params.max_branches > 1;
}

// The most tokens that a branch and its descendants can get at `times` virtual times.
int64_t most_tokens(const Request& request, const Branch& branch, int64_t times) {
  if (!can_fork(request, branch)) return times;
  // Each time gives each live branch one token, and a second one, [Child], for a fork.
  const int64_t most = 2 * times * request.params.max_branches;
  // No [Fork] follows a [Fork]; each child gets one token at each time at most.
  const int64_t with_children = times + (times + 1) / 2 * times;
  return branch.depth + 1 == request.params.max_depth ? std::min(most, with_children) : most;
}

}  // namespace

bool must_wait(const Request& request, const Branch& branch, When when) {
  if (request.live.size() == 1) return false;
  const int32_t time = branch.time();
  int64_t tokens = 0;    // that branches behind can get first
  int64_t children = 0;  // that they can fork first, at most
  int32_t behind = 0;
  for (const Branch* other : request.live) {
    if (!is_behind(*other, branch, when)) continue;
    ++behind;
    const int64_t most = most_tokens(request, *other, time - other->time() + 1);
    tokens += most;
    if (can_fork(request, *other)) children += most;
  }
  if (behind == 0) return false;
  if (request.remaining_tokens() < tokens + kReserve) return true;
  if (!can_fork(request, branch)) return false;
  const int64_t limit = request.params.max_branches;
  if (static_cast<int64_t>(request.branches.size()) + children < limit) return false;
  // The branches behind may have ended by then, or forked.
  const int64_t live = live_at(request, branch);
  return live - behind < limit && live + children >= limit;
}

bool fork_must_wait(const Request& request, const Branch& branch, When when) {
  return std::any_of(request.live.begin(), request.live.end(), [&](const Branch* other) {
    return is_behind(*other, branch, when) && can_fork(request, *other);
  });
}

int32_t live_at(const Request& request, const Branch& branch) {
  const Moment moment = next(branch);
  int32_t live = 0;
  for (const Branch* other : request.recent) {
    const bool born =
        other->parent < 0 || other->parent == branch.id || Moment(other->start, other->parent) < moment;
    if (born && !ended_before(*other, moment)) ++live;
  }
  return live;
}

void forget_past(Request& request) {
  if (request.live.empty()) return;
  Moment earliest = next(*request.live.front());
  for (const Branch* branch : request.live) earliest = std::min(earliest, next(*branch));
  std::erase_if(request.recent, [&](const Branch* branch) { return ended_before(*branch, earliest); });
}

void begin_child(const Branch& parent, int32_t own_index, int32_t position, Branch& child) {
  child.parent = parent.id;
  child.depth = parent.depth + 1;
  child.start = child.decided_at = parent.start + own_index;
  child.key = child_key(parent.key, position);
}

}  // namespace apar
