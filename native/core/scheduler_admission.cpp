// Which branches run (have pinned blocks, and may be among the max_branches that a step samples), and which
// are preempted for others.
#include <algorithm>
#include <cmath>

#include "core/scheduler.h"

namespace apar {
namespace {

constexpr int32_t kBegunInTime = 3;  // before a late request begins

}  // namespace

// Blocks that admission lacks for a waiting branch; <= 0 if there are enough.
int32_t Scheduler::blocks_short(const Branch& branch) const {
  // Running branches need some free blocks, or they would be preempted as soon as they grow: every second one
  // needs its next block within half a block of tokens.
  const auto watermark =
      static_cast<int32_t>(std::ceil(limits_.watermark * static_cast<float>(tree_.pool().num_blocks())));
  const int32_t spare = running_ > 0 ? std::max(watermark, (running_ + 1) / 2) : 0;
  const int32_t wanted = tree_.blocks_missing(branch.tail) + tree_.blocks_idle(branch.tail);
  return admitted_blocks_ + wanted + spare - tree_.pool().num_available();
}

void Scheduler::admit(std::list<Request>& requests) {
  if (!shares_.has_several()) return admit_waiting(requests);
  sort_by_tenant(requests);
  choose_elder();
  admit_fairly();
}

// One of four requests of a tenant that begin is a late one, if there are any: late ones are served, too.
// Each tenant has its own count: a late one that waits for places that go to others first must not keep
// theirs.
void Scheduler::promote_late(std::list<Request>& requests) {
  for (Tenant* tenant : shares_.active()) tenant->promoted = nullptr;
  for (Request& request : requests) {
    Tenant& tenant = *request.tenant;
    if (!request.late || tenant.promoted != nullptr || tenant.begun_in_time < kBegunInTime) continue;
    tenant.promoted = &request;
    request.late = false;
  }
}

// Gated branches give their blocks up when an open branch of their request was not admitted: it may be what
// they wait for. So a request with running branches has one that can step. Returns whether one did.
bool Scheduler::release_gated(std::list<Request>& requests) {
  bool released = false;
  for (Request& request : requests) {
    const bool wanted = std::any_of(request.live.begin(), request.live.end(), [](const Branch* branch) {
      return branch->state == BranchState::waiting && branch->gate == Gate::open;
    });
    if (!wanted) continue;
    for (Branch* branch : request.live) {
      if (branch->state != BranchState::running || branch->gate == Gate::open) continue;
      preempt({&request, branch});
      released = true;
    }
  }
  return released;
}

// Those that have run, then those that can keep their deadlines.
int Scheduler::admission_rank(const Request& request) {
  return request.has_run() ? 0 : request.late ? 2 : 1;
}

bool Scheduler::runs(const Request& request) {
  return std::ranges::any_of(request.live,
                             [](const Branch* branch) { return branch->state == BranchState::running; });
}

void Scheduler::admit_waiting(std::list<Request>& requests) {
  open_ = 0;
  for (const Request& request : requests)
    open_ += static_cast<int32_t>(std::ranges::count_if(request.live, &Branch::can_step));
  const auto admit_all = [&](Request& request) {
    for (Branch* branch : request.live) {
      if (branch->state != BranchState::waiting || branch->gate != Gate::open) continue;
      if (!runs(request) && open_ >= limits_.max_branches) return false;
      if (blocks_short(*branch) > 0) return false;
      run(request, *branch);
    }
    return true;
  };
  for (const int rank : {0, 1, 2}) {
    for (Request& request : requests) {
      if (admission_rank(request) == rank && !admit_all(request)) return;
    }
  }
}

void Scheduler::run(Request& request, Branch& branch) {
  admitted_blocks_ += tree_.blocks_missing(branch.tail);
  tree_.pin(branch.tail);
  branch.state = BranchState::running;
  branch.preempted = false;
  ++running_;
  ++open_;
  ++request.tenant->running;
  if (!request.has_run()) {
    Tenant& tenant = *request.tenant;
    tenant.begun_in_time = request.late || &request == tenant.promoted ? 0 : tenant.begun_in_time + 1;
    request.late = false;
    request.cached_tokens = tree_.computed_tokens(branch.tail);
    cached_rows_ += request.cached_tokens;
  }
}

void Scheduler::preempt(RequestBranch victim) {
  tree_.unpin(victim.branch->tail);
  victim.branch->state = BranchState::waiting;
  victim.branch->preempted = true;
  victim.branch->ready = false;
  --running_;
  if (victim.branch->gate == Gate::open) {
    --open_;
    --victim.request->tenant->running;
  }
  victim.request->tenant->may_admit = false;  // in this step
  ++preemptions_;
}

void Scheduler::sort_by_tenant(std::list<Request>& requests) {
  open_ = 0;
  for (Tenant* tenant : shares_.active()) {
    tenant->live.clear();
    tenant->running = 0;
    tenant->may_admit = true;
  }
  for (Request& request : requests) {
    for (Branch* branch : request.live) {
      request.tenant->live.push_back({&request, branch});
      if (!branch->can_step()) continue;
      ++request.tenant->running;
      ++open_;
    }
  }
}

// The first branch of the tenant that has waited longest for a token, if it has waited too long.
void Scheduler::choose_elder() {
  if (elder_ != nullptr && elder_->gate == Gate::open) return;
  elder_ = nullptr;
  int64_t oldest = step_ - kPatience;
  for (Tenant* tenant : shares_.active()) {
    if (tenant->live.empty() || tenant->token_step >= oldest) continue;
    oldest = tenant->token_step;
    elder_ = first_open(*tenant).branch;
    elders_tenant_ = tenant;
  }
}

// It belongs to the tenant's first request: each request has a branch that waits for no other.
RequestBranch Scheduler::first_open(const Tenant& tenant) {
  const auto found = std::find_if(tenant.live.begin(), tenant.live.end(),
                                  [](const RequestBranch& at) { return at.branch->gate == Gate::open; });
  return found == tenant.live.end() ? RequestBranch{} : *found;
}

// Preempts whatever is in its way. The empty pool has room for every branch (Decoder::validate).
void Scheduler::admit_elder() {
  if (elder_->state != BranchState::waiting) return;
  Request& request = *elders_tenant_->live.front().request;
  while (blocks_short(*elder_) > 0) {
    const RequestBranch victim = victim_shared(request, *elder_);
    if (victim.branch == nullptr) return;
    preempt(victim);
  }
  run(request, *elder_);
}

RequestBranch Scheduler::first_waiting(const Tenant& tenant) {
  RequestBranch first{};
  for (const RequestBranch& at : tenant.live) {
    if (at.branch->state != BranchState::waiting || at.branch->gate != Gate::open) continue;
    if (first.branch == nullptr || admission_rank(*at.request) < admission_rank(*first.request)) first = at;
  }
  return first;
}

void Scheduler::admit_fairly() {
  if (elder_ != nullptr) admit_elder();
  for (;;) {
    Tenant* next = nullptr;
    RequestBranch first{};
    for (Tenant* tenant : shares_.active()) {
      if (!tenant->may_admit) continue;
      const RequestBranch waiting = first_waiting(*tenant);
      if (waiting.branch == nullptr) {
        tenant->may_admit = false;
        continue;
      }
      const auto order = [](const Tenant& of, const Request& request) {
        return std::tuple(-of.priority, static_cast<float>(of.running + 1) / of.weight, request.arrival);
      };
      if (next != nullptr && order(*next, *first.request) <= order(*tenant, *waiting.request)) continue;
      next = tenant;
      first = waiting;
    }
    if (next == nullptr) return;
    // The tenant's later branches must not overtake its first one.
    next->may_admit = try_admit(*next, first);
  }
}

bool Scheduler::try_admit(Tenant& tenant, RequestBranch waiting) {
  if (!runs(*waiting.request) && open_ >= limits_.max_branches && !may_begin(tenant)) return false;
  if (blocks_short(*waiting.branch) > 0 && !make_room(tenant, *waiting.branch)) return false;
  run(*waiting.request, *waiting.branch);
  return true;
}

// Whether the tenant would stay within its share of the blocks with one more branch. Only then may it preempt
// branches of its own priority: a tenant that is over its share can lose branches in the same way, and two
// tenants could preempt each other in turns.
bool Scheduler::stays_within_share(const Tenant& tenant, const Branch& branch) {
  count_blocks();
  const int32_t wanted = tree_.blocks_missing(branch.tail) + tree_.blocks_idle(branch.tail);
  return tenant.held_blocks + wanted <= share_of_blocks(tenant);
}

// Whether a request of the tenant may begin although as many branches as a step samples are open: where some
// are of a tenant of lower priority, or of one that has at least as many for its weight as this one with one
// more.
bool Scheduler::may_begin(const Tenant& tenant) {
  if (tenant.running >= limits_.max_branches) return false;
  return std::ranges::any_of(shares_.active(), [&](const Tenant* other) {
    if (other->running == 0) return false;
    if (other->priority != tenant.priority) return other->priority < tenant.priority;
    return static_cast<float>(other->running - 1) / other->weight >=
           static_cast<float>(tenant.running + 1) / tenant.weight;
  });
}

// Preempts branches of tenants of lower priority and, for a tenant that stays within its share of the blocks,
// of tenants that hold more than theirs. Preempts nothing if that would not be enough.
bool Scheduler::make_room(const Tenant& tenant, const Branch& branch) {
  const bool within = stays_within_share(tenant, branch);
  const auto spare_of = [&](const Tenant& other) {
    if (&other == &tenant || other.priority > tenant.priority) return 0.0;
    if (other.priority < tenant.priority) return static_cast<double>(other.held_blocks);
    return within ? other.held_blocks - share_of_blocks(other) : 0.0;
  };
  double spare = 0;
  for (const Tenant* other : shares_.active()) spare += std::max(0.0, spare_of(*other));
  if (spare < blocks_short(branch)) return false;
  while (blocks_short(branch) > 0) {
    const Tenant* victim = nullptr;
    for (const Tenant* other : shares_.active()) {
      if (spare_of(*other) <= 0 || last_running(*other).branch == nullptr) continue;
      const auto order = [](const Tenant& of) {
        return std::tuple(of.priority, -static_cast<float>(of.held_blocks) / of.weight);
      };
      if (victim == nullptr || order(*other) < order(*victim)) victim = other;
    }
    if (victim == nullptr) return false;
    preempt(last_running(*victim));
    count_blocks();
  }
  return true;
}

// The branch of a tenant that is preempted first: the last of the gated ones, which could not use their
// blocks in this step, before the last of all.
RequestBranch Scheduler::last_running(const Tenant& tenant) const {
  RequestBranch last{};
  for (auto at = tenant.live.rbegin(); at != tenant.live.rend(); ++at) {
    const Branch& branch = *at->branch;
    if (branch.state != BranchState::running || branch.scheduled || &branch == elder_) continue;
    if (branch.gate != Gate::open) return *at;
    if (last.branch == nullptr) last = *at;
  }
  return last;
}

// The last branch that may be preempted for a running branch of the only tenant.
RequestBranch Scheduler::victim_alone(std::list<Request>& requests, const Branch& branch) {
  RequestBranch victim{};
  bool after = false;
  for (Request& request : requests) {
    for (Branch* other : request.live) {
      if (other == &branch)
        after = true;
      else if ((after || other->gate != Gate::open) && other->state == BranchState::running &&
               !other->scheduled)
        victim = {&request, other};
    }
  }
  return victim;
}

// Later requests are preempted for earlier ones in this order, which keeps them from preempting each other in
// turns: by priority, tenants within their share of the blocks first, by arrival.
std::tuple<int32_t, bool, int64_t> Scheduler::preemption_order(const Request& request) {
  const bool over = request.tenant->held_blocks > share_of_blocks(*request.tenant);
  return {-request.tenant->priority, over, request.arrival};
}

// The last branch that may be preempted for a branch, when there are several tenants; any gated one before
// that.
RequestBranch Scheduler::victim_shared(const Request& request, const Branch& branch) {
  count_blocks();
  const auto own = preemption_order(request);
  const auto order = [&](const RequestBranch& at) {
    return std::pair(at.branch->gate != Gate::open, preemption_order(*at.request));
  };
  RequestBranch victim{};
  for (const Tenant* tenant : shares_.active()) {
    const RequestBranch last = last_running(*tenant);
    if (last.branch == nullptr || last.branch == &branch) continue;
    const bool after =
        last.request == &request ? last.branch->id > branch.id : preemption_order(*last.request) > own;
    if (!after && last.branch->gate == Gate::open && &branch != elder_) continue;
    if (victim.branch == nullptr || order(last) > order(victim)) victim = last;
  }
  return victim;
}

// Counts the blocks of each tenant's running branches; those that tenants share count for each of them.
void Scheduler::count_blocks() {
  counted_for_.clear();
  for (Tenant* tenant : shares_.active()) {
    tenant->held_blocks = 0;
    for (const RequestBranch& at : tenant->live) {
      if (at.branch->state != BranchState::running) continue;
      for (NodeId id = at.branch->tail; id != kNoNode; id = tree_.at(id).parent) {
        const auto index = static_cast<size_t>(id);
        if (counted_for_.size() <= index) counted_for_.resize(index + 1, nullptr);
        if (counted_for_[index] == tenant) break;
        counted_for_[index] = tenant;
        tenant->held_blocks += static_cast<int32_t>(tree_.at(id).blocks.size());
      }
    }
  }
}

double Scheduler::share_of_blocks(const Tenant& tenant) {
  return tree_.pool().num_blocks() * (tenant.weight / shares_.total_weight());
}

}  // namespace apar
