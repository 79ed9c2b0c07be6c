#pragma once

#include <cstdint>
#include <list>
#include <vector>

#include "common/step_batch.h"
#include "core/request.h"

namespace apar {

struct SchedulerLimits {
  int32_t max_step_tokens = 0;  // rows of one forward pass
  int32_t max_branches = 0;     // that may run at once, of all requests; <= max_step_tokens
  float watermark = 0;          // share of the blocks that must stay free when a branch is admitted
};

// A branch whose next token the step samples. Sample i of a step uses row i of its logits.
struct Sample {
  Request* request;
  Branch* branch;
};

// Continuous batching: decides what each step computes, decode rows first, then chunked prefill, within the
// token budget. Requests are served first come, first served, the branches of a request in order of id. When
// there are too few blocks, the last branch in that order without rows in this step is preempted: it keeps
// its tokens and is recomputed when there are enough blocks.
class Scheduler {
 public:
  Scheduler(KvTree& tree, SchedulerLimits limits) : tree_(tree), limits_(limits) {}

  // Builds the batch of the next step; `requests` in order of arrival. Returns false when there is nothing to
  // compute. After each true, update() or discard() must follow.
  bool schedule(std::list<Request>& requests);
  // Valid after schedule() until the tree changes.
  const StepBatch& batch() const { return batch_; }
  const std::vector<Sample>& samples() const { return samples_; }
  // The step has run: its K and V are in the pool.
  void update() { end_step(true); }
  // The step has failed: its K and V are not in the pool.
  void discard() { end_step(false); }

  // Ends a branch and unpins its path.
  void finish(Branch& branch);

  int32_t running() const { return running_; }
  int64_t preemptions() const { return preemptions_; }
  int64_t prefill_rows() const { return prefill_rows_; }
  // Prompt tokens that were found in the prefix cache.
  int64_t cached_rows() const { return cached_rows_; }

  // After a fork: if the parent runs and fewer than max_branches run, the child runs at once, else it waits.
  void add_child(Request& request, const Branch& parent, Branch& child);

 private:
  void clear_batch();
  void release_gated(std::list<Request>& requests);
  void admit_waiting(std::list<Request>& requests);
  void run(Request& request, Branch& branch);
  int32_t pending_rows(const Branch& branch);
  void schedule_branch(std::list<Request>& requests, Request& request, Branch& branch);
  bool reserve(std::list<Request>& requests, Branch& branch, NodeId node, int32_t count);
  void mark_scheduled(Branch& branch);
  void preempt(Branch& branch);
  int32_t add_rows(NodeId node, int32_t first, int32_t count, size_t path_nodes);
  int32_t view_of(NodeId node);
  void build_batch();
  void end_step(bool computed);
  int32_t token_budget() const { return limits_.max_step_tokens - static_cast<int32_t>(tokens_.size()); }

  KvTree& tree_;
  SchedulerLimits limits_;
  int32_t running_ = 0;
  int64_t preemptions_ = 0;
  int64_t prefill_rows_ = 0;
  int64_t cached_rows_ = 0;

  // The current step.
  std::vector<int32_t> tokens_, positions_, slots_, path_, logit_rows_;
  std::vector<SequenceRows> sequences_;
  std::vector<KvNodeView> views_;
  std::vector<NodeId> view_nodes_;
  std::vector<int32_t> view_index_;  // [node]: its index in views_, -1 if it has none
  std::vector<NodeId> branch_path_;  // scratch
  std::vector<Branch*> scheduled_branches_;
  std::vector<Sample> samples_;
  StepBatch batch_;
};

}  // namespace apar
