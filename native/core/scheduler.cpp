#include "core/scheduler.h"

#include <algorithm>
#include <numeric>

namespace apar {
namespace {

// The most rows that a decoding branch needs: its own last token and, right after a fork, [Fork] at the end
// of the parent node, unless another branch computes it.
constexpr int32_t kDecodeRows = 2;
// Part of a step that the oldest prompt, and a tenant that has waited too long, get at least.
constexpr int32_t kOldestPart = 4;

// Those that have waited longest first. The turns of a request are taken by those of its branches that are
// behind: the others might have to wait for them, and what they sampled would be dropped (virtual_order.h).
void sort_by_turn(std::vector<RequestBranch>& branches) {
  std::vector<RequestBranch> behind_first = branches;
  std::ranges::stable_sort(behind_first, {}, [](const RequestBranch& at) {
    return std::pair(at.request->arrival, at.branch->time());
  });
  std::ranges::stable_sort(branches, {}, [](const RequestBranch& at) { return at.branch->last_step; });
  std::vector<size_t> turns(branches.size());
  std::iota(turns.begin(), turns.end(), 0);
  std::ranges::stable_sort(turns, {}, [&](size_t turn) { return branches[turn].request->arrival; });
  for (size_t i = 0; i < turns.size(); ++i) branches[turns[i]] = behind_first[i];
}

}  // namespace

void Scheduler::enter(Request& request) {
  request.tenant = &shares_.enter(request.params.tenant, step_);
  request.arrival = ++arrivals_;
}

bool Scheduler::schedule(std::list<Request>& requests) {
  clear_batch();
  ++step_;
  admitted_blocks_ = 0;
  const bool shared = shares_.has_several();
  row_limit_ = shared ? row_bound_.next() : limits_.max_step_tokens;
  promote_late(requests);
  admit(requests);
  if (release_gated(requests)) admit(requests);
  if (shared)
    schedule_shared(requests);
  else
    schedule_alone(requests);
  return rows() > 0;
}

void Scheduler::schedule_alone(std::list<Request>& requests) {
  prefills_.clear();
  for (Request& request : requests) {
    decodes_.clear();
    for (Branch* branch : request.live) {
      if (!branch->can_step()) continue;
      (pending_rows(*branch) > kDecodeRows ? prefills_ : decodes_).push_back({&request, branch});
    }
    if (free_samples() < static_cast<int32_t>(decodes_.size()))
      std::ranges::stable_sort(decodes_, {}, [](const RequestBranch& at) { return at.branch->time(); });
    for (const auto [_, branch] : decodes_) {
      if (token_budget() == 0) return;
      if (branch->can_step()) schedule_branch(requests, request, *branch, kDecodeRows);
    }
  }
  share_prefill(prefills_, token_budget());
  // In order of arrival: only later branches can be preempted for a branch.
  for (const auto [request, branch] : prefills_) {
    // Scheduling one branch may have preempted another.
    if (branch->can_step() && branch->rows_wanted > 0)
      schedule_branch(requests, *request, *branch, branch->rows_wanted);
  }
}

// Divides `rows` among prompts in order of arrival: a part for the oldest, the rest for those that are
// nearest to their first token. So a short prompt does not wait for a long one, nor a long one for ever.
void Scheduler::share_prefill(std::span<const RequestBranch> prefills, int32_t rows) {
  const auto give = [&](Branch& branch, int32_t most) {
    const int32_t given = std::min({pending_rows(branch) - branch.rows_wanted, most, rows});
    branch.rows_wanted += given;
    rows -= given;
  };
  for (const auto [request, branch] : prefills) branch->rows_wanted = 0;
  if (prefills.size() > 1) give(*prefills.front().branch, std::max(1, rows / kOldestPart));
  by_rest_.clear();
  for (const auto [request, branch] : prefills) by_rest_.emplace_back(pending_rows(*branch), branch);
  std::stable_sort(by_rest_.begin(), by_rest_.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [rest, branch] : by_rest_) give(*branch, rows);
}

void Scheduler::schedule_shared(std::list<Request>& requests) {
  const auto schedule = [&](Request& request, Branch& branch, int32_t rows) {
    if (rows == 0 || branch.scheduled || !branch.can_step()) return;
    const int32_t before = token_budget();
    schedule_branch(requests, request, branch, rows);
    FairShares::charge(*request.tenant, before - token_budget());
  };
  if (elder_ != nullptr) {
    Request& request = *elders_tenant_->live.front().request;
    schedule(request, *elder_, std::max(kDecodeRows, token_budget() / kOldestPart));
  }
  for (Tenant* tenant : shares_.active()) {
    for (const auto [request, branch] : tenant->live) {
      const bool waits = branch->can_step() && !branch->scheduled;
      branch->rows_wanted = waits ? std::max(1, pending_rows(*branch)) : 0;
    }
  }
  share_samples();
  for (Tenant* tenant : shares_.active()) {
    tenant->demand = 0;
    // More rows than a step has are no demand, and the sum could overflow.
    for (const RequestBranch& at : tenant->live)
      tenant->demand = std::min(tenant->demand + at.branch->rows_wanted, limits_.max_step_tokens);
  }
  shares_.allot(token_budget());
  for (Tenant* tenant : shares_.active()) share_rows(*tenant);
  for (const bool prefill : {false, true}) {
    for (Tenant* tenant : shares_.active()) {
      for (const auto [request, branch] : tenant->live) {
        if ((branch->rows_wanted > kDecodeRows) == prefill) schedule(*request, *branch, branch->rows_wanted);
      }
    }
  }
  if (tokens_.empty() && choose_first()) {
    admit_elder();
    schedule(*elders_tenant_->live.front().request, *elder_, token_budget());
  }
  for (Tenant* tenant : shares_.active()) tenant->demand += tenant->passed_over;
  shares_.lift();
}

// For a step in which no branch that was to have rows found blocks: makes the first open one in the order of
// preemption the elder, for which all others can be preempted. Without requests there is none.
bool Scheduler::choose_first() {
  count_blocks();
  admitted_blocks_ = 0;
  RequestBranch first{};
  for (Tenant* tenant : shares_.active()) {
    const RequestBranch at = first_open(*tenant);
    if (at.branch == nullptr) continue;
    if (first.branch != nullptr && preemption_order(*at.request) >= preemption_order(*first.request))
      continue;
    first = at;
    elders_tenant_ = tenant;
  }
  elder_ = first.branch;
  return elder_ != nullptr;
}

// Divides the samples of the step among the branches that decode: a tenant's take turns where it has too few.
void Scheduler::share_samples() {
  const auto decodes = [](const RequestBranch& at) {
    return at.branch->rows_wanted > 0 && at.branch->rows_wanted <= kDecodeRows;
  };
  int32_t wanted = 0;
  for (Tenant* tenant : shares_.active()) {
    tenant->demand = static_cast<int32_t>(std::ranges::count_if(tenant->live, decodes));
    tenant->passed_over = 0;
    wanted += tenant->demand;
  }
  if (wanted <= free_samples()) return;
  shares_.allot(free_samples());
  for (Tenant* tenant : shares_.active()) {
    tenant->passed_over = tenant->demand - tenant->allotted;
    if (tenant->passed_over == 0) continue;
    decodes_.clear();
    std::ranges::copy_if(tenant->live, std::back_inserter(decodes_), decodes);
    sort_by_turn(decodes_);
    for (const RequestBranch& at : std::span(decodes_).subspan(static_cast<size_t>(tenant->allotted)))
      at.branch->rows_wanted = 0;
  }
}

// Divides a tenant's rows of the step among its branches. If not all decoding branches can have a row, half
// of the rows are for prompts, and branches that have waited longest come first.
void Scheduler::share_rows(Tenant& tenant) {
  if (tenant.allotted == 0 && tenant.demand == 0) return;
  prefills_.clear();
  decodes_.clear();
  int32_t decode_rows = 0, prefill_rows = 0;
  for (const RequestBranch& at : tenant.live) {
    const int32_t wanted = at.branch->rows_wanted;
    if (wanted == 0) continue;
    const bool prefill = wanted > kDecodeRows;
    (prefill ? prefills_ : decodes_).push_back(at);
    int32_t& sum = prefill ? prefill_rows : decode_rows;
    sum = std::min(sum + wanted, limits_.max_step_tokens);
  }
  // With one row, they take turns.
  const auto half = static_cast<int32_t>((tenant.allotted + step_ % 2) / 2);
  const int32_t decodes = std::min(decode_rows, std::max(tenant.allotted - prefill_rows, half));
  if (decodes < decode_rows) sort_by_turn(decodes_);
  int32_t left = decodes;
  for (const auto [request, branch] : decodes_) {
    branch->rows_wanted = std::min(branch->rows_wanted, left);
    left -= branch->rows_wanted;
  }
  share_prefill(prefills_, tenant.allotted - decodes);
}

int32_t Scheduler::pending_rows(const Branch& branch) const {
  int32_t rows = 0;
  for (NodeId id = branch.tail; id != kNoNode; id = tree_.at(id).parent) rows += tree_.at(id).pending();
  return std::max(rows, branch.to_score);
}

// Computes at most `max_rows` of the branch's path, and samples its next token if they are enough.
void Scheduler::schedule_branch(std::list<Request>& requests, Request& request, Branch& branch,
                                int32_t max_rows) {
  tree_.path(branch.tail, branch_path_);
  if (branch.to_score > 0) return score_prompt(requests, request, branch, max_rows);
  const bool decodes = pending_rows(branch) <= kDecodeRows;
  if (decodes && free_samples() == 0) return;
  int32_t last_row = -1;
  NodeId last_scheduled = kNoNode;
  for (size_t depth = 0; depth < branch_path_.size(); ++depth) {
    const NodeId id = branch_path_[depth];
    const int32_t pending = tree_.at(id).pending();
    const int32_t rows = std::min({pending, max_rows, token_budget()});
    if (pending == 0) continue;
    const int32_t first = tree_.at(id).computed + tree_.at(id).scheduled;
    if (rows == 0 || !reserve(requests, request, branch, id, first + rows)) return;
    mark_scheduled(branch);
    last_row = add_rows(request, id, first, rows, depth + 1);
    last_scheduled = id;
    tree_.at(id).scheduled += rows;
    max_rows -= rows;
    if (!decodes) prefill_rows_ += rows;
    if (rows < pending) return;
  }

  if (free_samples() == 0) return;
  // This step computes the rest of the path; the logits of its last token give the next token.
  const NodeId last = branch_path_.back();
  if (last_scheduled != last) {
    // The last token's row runs elsewhere in this step, or ran earlier, without logits. It runs again and
    // writes the same bits.
    if (token_budget() == 0) return;
    last_row = add_rows(request, last, tree_.at(last).num_tokens() - 1, 1, branch_path_.size());
    mark_scheduled(branch);
  }
  logit_rows_.push_back(last_row);
  samples_.push_back({&request, &branch});
  sample_sequences_.push_back(static_cast<int32_t>(sequences_.size()) - 1);
}

// As schedule_branch() for a prompt whose log-probabilities are wanted: rows that are in the prefix cache, or
// that another branch computes in this step, run again for their logits and write the same bits. The prompt's
// last row waits for a later step, which samples from it.
void Scheduler::score_prompt(std::list<Request>& requests, Request& request, Branch& branch,
                             int32_t max_rows) {
  const auto last = static_cast<int32_t>(request.params.prompt.size()) - 1;
  const int32_t unscored = last - branch.to_score;  // the first row whose logits are wanted
  max_rows = std::min(max_rows, kMostPromptRows - static_cast<int32_t>(prompt_rows_.size()));
  for (size_t depth = 0; depth < branch_path_.size(); ++depth) {
    const NodeId id = branch_path_[depth];
    const KvNode& node = tree_.at(id);
    const int32_t known = node.computed + node.scheduled;
    // A preempted branch may lack rows that were scored.
    const int32_t first = std::min(known, std::max(0, unscored - node.start));
    const int32_t wanted = std::min(node.end(), last) - node.start - first;
    if (wanted <= 0) continue;
    const int32_t rows = std::min({wanted, max_rows, token_budget()});
    if (rows <= 0 || !reserve(requests, request, branch, id, std::max(known, first + rows))) return;
    mark_scheduled(branch);
    const int32_t last_row = add_rows(request, id, first, rows, depth + 1);
    for (int32_t i = 0; i < rows; ++i) {
      const int32_t position = node.start + first + i;
      if (position >= unscored)
        prompt_rows_.push_back({&request, &branch, last_row - rows + 1 + i, position});
    }
    tree_.at(id).scheduled += std::max(0, first + rows - known);
    max_rows -= rows;
    prefill_rows_ += rows;
    if (rows < wanted) return;
  }
}

void Scheduler::mark_scheduled(Branch& branch) {
  if (branch.scheduled) return;
  branch.scheduled = true;
  branch.last_step = step_;
  scheduled_branches_.push_back(&branch);
}

bool Scheduler::reserve(std::list<Request>& requests, Request& request, Branch& branch, NodeId node,
                        int32_t count) {
  while (!tree_.reserve(node, count)) {
    const RequestBranch victim =
        shares_.has_several() ? victim_shared(request, branch) : victim_alone(requests, branch);
    if (victim.branch == nullptr) {
      // No branch can be preempted for this one. If it has rows in this step, it computes only those.
      if (!branch.scheduled) preempt({&request, &branch});
      return false;
    }
    preempt(victim);
  }
  return true;
}

void Scheduler::finish(Branch& branch) {
  if (branch.state == BranchState::running) {
    tree_.unpin(branch.tail);
    --running_;
  }
  branch.state = BranchState::ended;
  if (&branch == elder_) elder_ = nullptr;
}

void Scheduler::add_child(Request& request, const Branch& parent, Branch& child) {
  if (parent.state == BranchState::running) run(request, child);
}

void Scheduler::update(double seconds) {
  if (decodes_only()) row_bound_.measured(rows(), seconds);
  for (const auto [request, branch] : samples_) {
    request->tenant->token_step = step_;
    if (request->tenant == elders_tenant_) elder_ = nullptr;
  }
  end_step(true);
}

void Scheduler::end_step(bool computed) {
  for (const NodeId id : view_nodes_) {
    KvNode& node = tree_.at(id);
    if (computed) node.computed += node.scheduled;
    node.scheduled = 0;
  }
  for (Branch* branch : scheduled_branches_) branch->scheduled = false;
  scheduled_branches_.clear();
}

}  // namespace apar
