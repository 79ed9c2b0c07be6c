#include "core/scheduler.h"

#include <algorithm>
#include <cmath>

namespace apar {
namespace {

// The most rows that a decoding branch needs: its own last token and, right after a fork, [Fork] at the end
// of the parent node, unless another branch computes it.
constexpr int32_t kDecodeRows = 2;

template <typename Visit>
void for_each_live(std::list<Request>& requests, Visit&& visit) {
  for (Request& request : requests) {
    for (Branch* branch : request.live) {
      if (!visit(request, *branch)) return;
    }
  }
}

}  // namespace

bool Scheduler::schedule(std::list<Request>& requests) {
  clear_batch();
  release_gated(requests);
  admit_waiting(requests);
  for (const bool prefill : {false, true}) {
    for_each_live(requests, [&](Request& request, Branch& branch) {
      // Evaluated again in each pass: scheduling one branch may preempt another or compute a shared prefix.
      if (branch.state == BranchState::running && !branch.scheduled && branch.gate == Gate::open &&
          (pending_rows(branch) > kDecodeRows) == prefill) {
        schedule_branch(requests, request, branch);
      }
      return token_budget() > 0;
    });
  }
  build_batch();
  return !tokens_.empty();
}

void Scheduler::clear_batch() {
  for (auto* rows : {&tokens_, &positions_, &slots_, &path_, &logit_rows_}) rows->clear();
  sequences_.clear();
  views_.clear();
  view_nodes_.clear();
  samples_.clear();
}

// Gated branches give their places and blocks to branches that wait for them: one of these may be what they
// wait for.
void Scheduler::release_gated(std::list<Request>& requests) {
  bool wanted = false;
  for_each_live(requests, [&](Request&, Branch& branch) {
    wanted = branch.state == BranchState::waiting && branch.gate == Gate::open;
    return !wanted;
  });
  if (!wanted) return;
  for_each_live(requests, [&](Request&, Branch& branch) {
    if (branch.gate != Gate::open && branch.state == BranchState::running) preempt(branch);
    return true;
  });
}

void Scheduler::admit_waiting(std::list<Request>& requests) {
  // Running branches need some free blocks, or they would be preempted as soon as they grow.
  const auto watermark =
      static_cast<int32_t>(std::ceil(limits_.watermark * static_cast<float>(tree_.pool().num_blocks())));
  int32_t reserved = 0;
  for_each_live(requests, [&](Request& request, Branch& branch) {
    if (running_ >= limits_.max_branches) return false;
    if (branch.state != BranchState::waiting || branch.gate != Gate::open) return true;
    const int32_t missing = tree_.blocks_missing(branch.tail);
    const int32_t spare = running_ > 0 ? watermark : 0;
    const int32_t wanted = missing + tree_.blocks_idle(branch.tail);
    if (reserved + wanted + spare > tree_.pool().num_available()) return false;
    reserved += missing;
    run(request, branch);
    return true;
  });
}

int32_t Scheduler::pending_rows(const Branch& branch) {
  int32_t rows = 0;
  for (NodeId id = branch.tail; id != kNoNode; id = tree_.at(id).parent) rows += tree_.at(id).pending();
  return rows;
}

void Scheduler::schedule_branch(std::list<Request>& requests, Request& request, Branch& branch) {
  tree_.path(branch.tail, branch_path_);
  const bool decodes = pending_rows(branch) <= kDecodeRows;
  int32_t last_row = -1;
  NodeId last_scheduled = kNoNode;
  for (size_t depth = 0; depth < branch_path_.size(); ++depth) {
    const NodeId id = branch_path_[depth];
    const int32_t pending = tree_.at(id).pending();
    const int32_t rows = std::min(pending, token_budget());
    if (pending == 0) continue;
    const int32_t first = tree_.at(id).computed + tree_.at(id).scheduled;
    if (rows == 0 || !reserve(requests, branch, id, first + rows)) return;
    mark_scheduled(branch);
    last_row = add_rows(id, first, rows, depth + 1);
    last_scheduled = id;
    tree_.at(id).scheduled += rows;
    if (!decodes) prefill_rows_ += rows;
    if (rows < pending) return;
  }

  // This step computes the rest of the path; the logits of its last token give the next token.
  const NodeId last = branch_path_.back();
  if (last_scheduled != last) {
    // The last token's row runs elsewhere in this step, or ran earlier, without logits. It runs again and
    // writes the same bits.
    if (token_budget() == 0) return;
    last_row = add_rows(last, tree_.at(last).num_tokens() - 1, 1, branch_path_.size());
    mark_scheduled(branch);
  }
  logit_rows_.push_back(last_row);
  samples_.push_back({&request, &branch});
}

void Scheduler::mark_scheduled(Branch& branch) {
  if (branch.scheduled) return;
  branch.scheduled = true;
  scheduled_branches_.push_back(&branch);
}

bool Scheduler::reserve(std::list<Request>& requests, Branch& branch, NodeId node, int32_t count) {
  while (!tree_.reserve(node, count)) {
    Branch* victim = nullptr;  // the last one in scheduling order
    bool after = false;
    for_each_live(requests, [&](Request&, Branch& other) {
      if (&other == &branch) after = true;
      const bool yields = after || other.gate != Gate::open;
      if (yields && &other != &branch && other.state == BranchState::running && !other.scheduled)
        victim = &other;
      return true;
    });
    if (victim == nullptr) {
      // No branch can be preempted for this one. If it has rows in this step, it computes only those.
      if (!branch.scheduled) preempt(branch);
      return false;
    }
    preempt(*victim);
  }
  return true;
}

void Scheduler::preempt(Branch& branch) {
  tree_.unpin(branch.tail);
  branch.state = BranchState::waiting;
  branch.preempted = true;
  branch.ready = false;
  --running_;
  ++preemptions_;
}

void Scheduler::finish(Branch& branch) {
  if (branch.state == BranchState::running) {
    tree_.unpin(branch.tail);
    --running_;
  }
  branch.state = BranchState::ended;
}

void Scheduler::add_child(Request& request, const Branch& parent, Branch& child) {
  if (parent.state != BranchState::running || running_ >= limits_.max_branches) return;
  run(request, child);
}

void Scheduler::run(Request& request, Branch& branch) {
  tree_.pin(branch.tail);
  branch.state = BranchState::running;
  branch.preempted = false;
  ++running_;
  if (request.cached_tokens < 0) {
    request.cached_tokens = tree_.computed_tokens(branch.tail);
    cached_rows_ += request.cached_tokens;
  }
}

int32_t Scheduler::add_rows(NodeId id, int32_t first, int32_t count, size_t path_nodes) {
  const KvNode& node = tree_.at(id);
  SequenceRows sequence;
  sequence.first_row = static_cast<int32_t>(tokens_.size());
  sequence.num_rows = count;
  sequence.path_begin = static_cast<int32_t>(path_.size());
  sequence.path_length = static_cast<int32_t>(path_nodes);
  sequence.context_length = node.start + first + count;
  sequences_.push_back(sequence);
  for (size_t i = 0; i < path_nodes; ++i) path_.push_back(view_of(branch_path_[i]));
  for (int32_t i = first; i < first + count; ++i) {
    tokens_.push_back(node.tokens[static_cast<size_t>(i)]);
    positions_.push_back(node.start + i);
    slots_.push_back(node.slot(i));
  }
  return static_cast<int32_t>(tokens_.size()) - 1;
}

int32_t Scheduler::view_of(NodeId id) {
  const auto i = static_cast<size_t>(id);
  if (view_index_.size() <= i) view_index_.resize(i + 1, -1);
  if (view_index_[i] < 0) {
    view_index_[i] = static_cast<int32_t>(view_nodes_.size());
    view_nodes_.push_back(id);
  }
  return view_index_[i];
}

void Scheduler::build_batch() {
  for (const NodeId id : view_nodes_) {
    const KvNode& node = tree_.at(id);
    views_.push_back({node.blocks, node.first_offset, node.computed + node.scheduled});
    view_index_[static_cast<size_t>(id)] = -1;
  }
  batch_ = StepBatch{tokens_, positions_, slots_, sequences_, views_, path_, logit_rows_};
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
