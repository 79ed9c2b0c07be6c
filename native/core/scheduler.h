#pragma once

#include <cstdint>
#include <list>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include "common/step_batch.h"
#include "core/draft/candidate.h"
#include "core/fair_shares.h"
#include "core/request.h"
#include "core/row_bound.h"

namespace apar {

struct SchedulerLimits {
  int32_t max_step_tokens = 0;  // rows of one forward pass
  int32_t max_branches = 0;     // that a step samples, of all requests; <= max_step_tokens
  // Share of the blocks that must stay free when a branch is admitted beside others; half a block for each of
  // them at least.
  float watermark = 0;
};

// A branch whose next token the step samples. Sample i of a step uses row i of its logits.
using Sample = RequestBranch;

// A row of a prompt whose logits give the log-probability of the prompt's next token.
struct PromptRow {
  Request* request = nullptr;
  Branch* branch = nullptr;
  int32_t row = 0;       // of the batch
  int32_t position = 0;  // of the row's token
  int32_t logits = 0;    // its row among the step's logits
};

// A row of a candidate. Row i of them uses row samples().size() + i of the step's logits.
struct CandidateRow {
  int32_t sample = 0;   // of its branch
  int32_t parent = -1;  // the row of the candidate before it; -1: the branch's own row
  int32_t token = -1;
  int32_t slot = 0;      // that its K and V are in until end_candidates()
  int32_t proposed = 0;  // its index among the candidates that were offered
};

// Continuous batching: decides what each step computes, within the token budget. Never changes what a request
// answers, only when.
//
// A request begins while fewer than max_branches could have a row, first come, first served; then all its
// branches are admitted as far as there are blocks. If some had to wait for a place, the others would soon
// have to wait for them (virtual_order.h). When there are too few blocks, the last branch in order of arrival
// and id without rows in this step is preempted: it keeps its tokens, and is recomputed where others used its
// blocks.
//
// One tenant alone: decode rows first, then chunked prefill, the shortest rest of a prompt first, but a
// quarter for the oldest prompt. Where more branches decode than a step samples, those of the oldest requests
// have rows, and of one request those that are behind.
//
// Several tenants (docs/adr/0027): rows, samples and KV blocks are divided among them by weight, and by
// priority before that; the requests of a tenant take turns. The number of rows is bounded where more of them
// would add little throughput. A tenant that got no token for kPatience steps comes first, whatever its
// priority, until it gets one.
//
// Requests that cannot keep the deadline of their first token (deadline_policy.h) begin after those of their
// tenant that can, but for one in four.
//
// A gated branch waits for others of its request (docs/adr/0028) and is not scheduled. It keeps its blocks
// until an open branch needs them. Each request has an open branch, so there is always something to compute
// while there are requests.
class Scheduler {
 public:
  static constexpr int64_t kPatience = 256;  // steps

  Scheduler(KvTree& tree, SchedulerLimits limits)
      : tree_(tree),
        limits_(limits),
        row_bound_(limits.max_step_tokens),
        row_limit_(limits.max_step_tokens) {}

  // Before the first schedule() with the request, and when it has ended.
  void enter(Request& request);
  void leave(Request& request) { shares_.leave(*request.tenant); }

  // Chooses the rows of the next step; `requests` in order of arrival. Returns false when there is nothing to
  // compute. After each true, update() or discard() must follow.
  bool schedule(std::list<Request>& requests);
  // After schedule() and add_candidates(). Valid until the tree changes.
  const StepBatch& build_batch();
  const std::vector<Sample>& samples() const { return samples_; }
  // At most kMostPromptRows, in order. A step with such rows has no candidates.
  static constexpr int32_t kMostPromptRows = 64;
  const std::vector<PromptRow>& prompt_rows() const { return prompt_rows_; }
  // The row of a sample among the step's logits: its index, unless the step has prompt rows.
  size_t logits_of(int32_t sample) const;

  // Adds rows for candidates to the step, behind all others. `offered` are those of one sample, the likeliest
  // paths first, parents before children. They take spare rows and spare blocks only, prefix cache among
  // them; those that find none are left out. At most once for each sample, then end_candidates() must follow.
  void add_candidates(int32_t sample, std::span<const Candidate> offered);
  // The request of each of the batch's sequences.
  const std::vector<Request*>& sequence_owners() const { return sequence_owners_; }
  // Rows that the step has left.
  int32_t spare_rows() const { return token_budget(); }
  // In order of their rows, those of a sample next to each other, parents before children.
  const std::vector<CandidateRow>& candidates() const { return candidates_; }
  // Rows of the step without those of candidates.
  int32_t own_rows() const { return rows() - static_cast<int32_t>(candidates_.size()); }
  // Whether nearly all rows decode: rows of prompts cost other times.
  bool decodes_only() const { return own_rows() - static_cast<int32_t>(samples_.size()) <= rows() / 8; }
  // Releases the blocks that only candidates used.
  void end_candidates();

  // The step has run, for `seconds`: its K and V are in the pool.
  void update(double seconds);
  // The step has failed: its K and V are not in the pool.
  void discard() {
    end_step(false);
    end_candidates();
  }

  // Ends a branch and unpins its path.
  void finish(Branch& branch);

  int32_t running() const { return running_; }
  // Rows that the current step could have had.
  int32_t row_limit() const { return row_limit_; }
  int64_t preemptions() const { return preemptions_; }
  int64_t prefill_rows() const { return prefill_rows_; }
  // Prompt tokens that were found in the prefix cache.
  int64_t cached_rows() const { return cached_rows_; }

  // After a fork: if the parent runs, the child runs at once, else it waits.
  void add_child(Request& request, const Branch& parent, Branch& child);

 private:
  // Consecutive candidates of one branch without alternatives to any but the first: a view of its own.
  struct CandidateRun {
    NodeId tail = kNoNode;  // whose blocks it is in; kNoNode: in borrowed ones
    int32_t begin = 0;      // slot in these blocks
    int32_t count = 0;
    int32_t above = -1;  // the run before it
  };
  // Where the candidates of a branch go.
  struct Placement {
    int32_t sample;
    NodeId tail;
    int32_t depths;  // for which the tail has slots
    std::span<const Candidate> offered;
  };

  int32_t pending_rows(const Branch& branch) const;
  void schedule_alone(std::list<Request>& requests);
  void schedule_shared(std::list<Request>& requests);
  bool choose_first();
  void share_prefill(std::span<const RequestBranch> prefills, int32_t rows);
  void share_samples();
  void share_rows(Tenant& tenant);
  void schedule_branch(std::list<Request>& requests, Request& request, Branch& branch, int32_t max_rows);
  bool reserve(std::list<Request>& requests, Request& request, Branch& branch, NodeId node, int32_t count);
  void score_prompt(std::list<Request>& requests, Request& request, Branch& branch, int32_t max_rows);
  void mark_scheduled(Branch& branch);
  void end_step(bool computed);
  int32_t rows() const { return static_cast<int32_t>(tokens_.size()); }
  int32_t token_budget() const { return row_limit_ - rows(); }
  int32_t free_samples() const { return limits_.max_branches - static_cast<int32_t>(samples_.size()); }

  // scheduler_batch.cpp
  void clear_batch();
  int32_t add_rows(Request& request, NodeId node, int32_t first, int32_t count, size_t path_nodes);
  int32_t view_of(NodeId node);
  void merge_prompt_rows();

  // scheduler_candidates.cpp
  int32_t reserve_behind(NodeId tail, int32_t depth);
  std::pair<int32_t, int32_t> borrow_slots(int32_t count);
  void link(std::span<const Candidate> offered);
  void place_run(const Placement& to, int32_t first, int32_t above, int32_t parent);
  int32_t add_sequence(int32_t sample, int32_t run, int32_t depth);

  // scheduler_admission.cpp
  void admit(std::list<Request>& requests);
  bool release_gated(std::list<Request>& requests);
  void promote_late(std::list<Request>& requests);
  void admit_waiting(std::list<Request>& requests);
  void sort_by_tenant(std::list<Request>& requests);
  void choose_elder();
  static RequestBranch first_open(const Tenant& tenant);
  static RequestBranch first_waiting(const Tenant& tenant);
  void admit_elder();
  void admit_fairly();
  bool try_admit(Tenant& tenant, RequestBranch waiting);
  int32_t blocks_short(const Branch& branch) const;
  bool stays_within_share(const Tenant& tenant, const Branch& branch);
  bool make_room(const Tenant& tenant, const Branch& branch);
  bool may_begin(const Tenant& tenant);
  static bool runs(const Request& request);
  static int admission_rank(const Request& request);
  void count_blocks();
  double share_of_blocks(const Tenant& tenant);
  std::tuple<int32_t, bool, int64_t> preemption_order(const Request& request);
  RequestBranch last_running(const Tenant& tenant) const;
  RequestBranch victim_alone(std::list<Request>& requests, const Branch& branch);
  RequestBranch victim_shared(const Request& request, const Branch& branch);
  void run(Request& request, Branch& branch);
  void preempt(RequestBranch victim);

  KvTree& tree_;
  SchedulerLimits limits_;
  FairShares shares_;
  RowBound row_bound_;
  int32_t row_limit_;        // of the current step
  Branch* elder_ = nullptr;  // comes first until its tenant gets a token
  Tenant* elders_tenant_ = nullptr;
  int64_t step_ = 0;
  int64_t arrivals_ = 0;
  int32_t running_ = 0;          // branches
  int32_t open_ = 0;             // those that are not gated, while admitting
  int32_t admitted_blocks_ = 0;  // that branches admitted for the current step will need
  int64_t preemptions_ = 0;
  int64_t prefill_rows_ = 0;
  int64_t cached_rows_ = 0;

  // The current step.
  std::vector<int32_t> tokens_, positions_, slots_, path_, logit_rows_;
  std::vector<SequenceRows> sequences_;
  std::vector<Request*> sequence_owners_;  // [sequence]
  std::vector<KvNodeView> views_;
  std::vector<NodeId> view_nodes_;
  std::vector<int32_t> view_index_;                   // [node]: its index in views_, -1 if it has none
  std::vector<NodeId> branch_path_;                   // scratch
  std::vector<RequestBranch> prefills_, decodes_;     // scratch
  std::vector<std::pair<int32_t, Branch*>> by_rest_;  // scratch
  std::vector<const Tenant*> counted_for_;            // scratch, [node]: whose block count has it
  std::vector<Branch*> scheduled_branches_;
  std::vector<Sample> samples_;
  std::vector<int32_t> sample_sequences_;  // [sample] that its row is in
  std::vector<PromptRow> prompt_rows_;
  std::vector<int32_t> sample_logits_;  // [sample] with prompt rows: its row among the logits

  // Candidates of the step.
  std::vector<CandidateRow> candidates_;
  std::vector<CandidateRun> runs_;
  std::vector<int32_t> borrowed_;                // blocks for those that do not follow a tail
  int32_t borrowed_used_ = 0;                    // slots of them
  std::vector<int32_t> first_child_, next_one_;  // scratch, [offered]: as linked lists
  StepBatch batch_;
};

}  // namespace apar
