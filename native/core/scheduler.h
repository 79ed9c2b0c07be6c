#pragma once

#include <cstdint>
#include <list>
#include <vector>

#include "common/step_batch.h"
#include "core/request.h"

namespace apar {

struct SchedulerLimits {
  int32_t max_step_tokens = 0;  // rows of one forward pass
  int32_t max_branches = 0;     // running at once, over all requests; <= max_step_tokens
  float watermark = 0;          // share of the blocks that admission leaves free
};

// A branch whose next token is to be sampled. Sample i of a step takes row i of its logits.
struct Sample {
  Request* request;
  Branch* branch;
};

// Decides what each step computes: decoding rows first, then prefill in chunks, within the token budget.
// First come, first served over requests, then branches in order of id. When blocks run out, the last branch
// in that order that has no rows in this step is set aside; it keeps its tokens and is recomputed when there
// is room.
class Scheduler {
 public:
  Scheduler(KvTree& tree, SchedulerLimits limits) : tree_(tree), limits_(limits) {}

  // Plans one step over `requests` (in order of arrival). False when there is nothing to compute.
  bool plan(std::list<Request>& requests);
  // Valid after plan() until the tree changes.
  const StepBatch& batch() const { return batch_; }
  const std::vector<Sample>& samples() const { return samples_; }
  // The step's K and V are in the pool. (drop: the step failed, they are not.)
  void commit() { settle(true); }
  void drop() { settle(false); }

  // A branch that is about to end or be freed gives up its blocks.
  void retire(Branch& branch);

  int32_t running() const { return running_; }
  int64_t preemptions() const { return preemptions_; }
  int64_t prefill_rows() const { return prefill_rows_; }
  // Prompt tokens that were found computed.
  int64_t cached_rows() const { return cached_rows_; }

  // A child of a running branch runs at once when there is a place, else it waits.
  void adopt(Request& request, const Branch& parent, Branch& child);

 private:
  void clear_plan();
  void activate(std::list<Request>& requests);
  void run(Request& request, Branch& branch);
  int32_t pending_rows(const Branch& branch);
  void schedule(std::list<Request>& requests, Request& request, Branch& branch);
  bool reserve(std::list<Request>& requests, Branch& branch, NodeId node, int32_t count);
  void mark_planned(Branch& branch);
  void preempt(Branch& branch);
  int32_t add_rows(NodeId node, int32_t first, int32_t count, size_t path_nodes);
  int32_t view_of(NodeId node);
  void finish_batch();
  void settle(bool computed);
  int32_t budget() const { return limits_.max_step_tokens - static_cast<int32_t>(tokens_.size()); }

  KvTree& tree_;
  SchedulerLimits limits_;
  int32_t running_ = 0;
  int64_t preemptions_ = 0;
  int64_t prefill_rows_ = 0;
  int64_t cached_rows_ = 0;

  // The step being planned.
  std::vector<int32_t> tokens_, positions_, slots_, path_, logit_rows_;
  std::vector<SequenceRows> sequences_;
  std::vector<KvNodeView> views_;
  std::vector<NodeId> view_nodes_;
  std::vector<int32_t> view_index_;  // [node] into views_, -1 when absent
  std::vector<NodeId> branch_path_;  // scratch
  std::vector<Branch*> planned_branches_;
  std::vector<Sample> samples_;
  StepBatch batch_;
};

}  // namespace apar
