#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/constraint.h"
#include "core/draft/acceptance.h"
#include "core/draft/source.h"
#include "core/fair_shares.h"
#include "core/forced_answer.h"
#include "core/kv_tree.h"
#include "core/sampler.h"
#include "core/stop_matcher.h"

namespace apar {

constexpr int32_t kRootBranch = 0;

// The values are shared with TypeScript (gpu-node/engine/engine-events.ts).
enum class FinishReason : int32_t {
  none = 0,
  stop = 1,
  length = 2,
  abort = 3,
  error = 4,
  not_finite = 5,
  unmatched = 6  // no token of the vocabulary goes on as the grammar demands
};
enum class EventKind : int32_t {
  token = 1,
  fork = 2,
  branch_end = 3,
  finish = 4,
  logprob = 5,
  speculation = 6,
  prompt_logprob = 7,
  trace = 8,
  end_token = 9
};

// gpu-node/engine/engine-events.ts defines `a` and `b` for each kind.
struct Event {
  EventKind kind;
  int32_t request;
  int32_t branch;
  int32_t a = 0;
  int32_t b = 0;
};

// A branch that was started on another engine, or that is given with the request (docs/adr/0078). `tokens`
// are its own tokens so far, including [Fork] and the forced [Child]; an answer with a grammar has neither.
struct RestoredBranch {
  int32_t id = kRootBranch;
  int32_t parent = -1;
  // Of [Fork], or of the last token before the child, in the parent's path, which includes the prompt; -1 for
  // the root.
  int32_t fork_position = -1;
  std::vector<int32_t> tokens;
  FinishReason ended = FinishReason::none;
};

// What may propose candidates (docs/adr/0047). `automatic`: the heads of the checkpoint if it has some, else
// n-grams.
enum class Speculation : uint8_t { off, automatic, heads, ngram };

// Where a stop string counts.
enum class StopScope : uint8_t {
  branch,    // in the branch's own text, also across its forks
  document,  // in the text of all branches in document order: not across a fork, where the child's text comes
             // between. Whoever joins the texts finds what lies across a joint.
};

struct RequestParams {
  int32_t id = 0;
  std::vector<int32_t> prompt;
  int32_t max_tokens = 0;    // new tokens of all branches together
  int32_t max_branches = 1;  // live at the same time, including the root
  int32_t max_depth = 1;     // the root has depth 1
  SamplerParams sampling;
  std::vector<int32_t> stop_tokens;
  std::vector<std::string>
      stop;  // strings in UTF-8; one of them ends a branch at the token that completes it
  StopScope stop_scope = StopScope::branch;
  int32_t max_branch_tokens = 0;  // new tokens of each branch; 0 is no limit
  int32_t logprobs = -1;          // most likely tokens to report besides the sampled one; -1: no logprobs
  int32_t prompt_logprobs = -1;   // the same for the tokens of the prompt, from the second on
  int32_t min_tokens = 0;         // new tokens of the root before which no token ends it
  bool ignore_eos = false;        // the model's own end tokens do not end the root
  std::vector<std::pair<int32_t, float>> logit_bias;
  // What the tokens of each path of the answer match, from its first one on; nullptr: any text. Such an
  // answer has no forks but those of `branches`.
  std::shared_ptr<const Grammar> grammar;
  std::vector<RestoredBranch> branches;  // in order of id, the root first; empty: there is no token yet
  std::vector<ForcedBranch> forced;      // what the request answers; empty: what the model says
  Speculation speculation = Speculation::automatic;  // what the engine allows of it; never changes answers
  bool trace = false;                                // report what each step computes for it (step_trace.h)
  TenantParams tenant;  // decides when the request is computed, never what it answers

  // Whether a device that draws tokens can sample those of the request. Else the host needs the logits.
  bool fit_token_draw() const { return logprobs < 0 && logit_bias.empty() && sampling.fit_token_draw(); }
};

enum class BranchState : uint8_t {
  waiting,  // its path is not pinned: new or preempted
  running,  // its path is pinned
  ended,
};

// Why a branch is not scheduled although it could run (virtual_order.h).
enum class Gate : uint8_t {
  open,
  token,  // its next token depends on branches behind it
  fork,   // it has sampled [Fork], and a branch behind it could fork first
};

struct Branch {
  int32_t id = kRootBranch;
  int32_t parent = -1;
  int32_t depth = 1;
  NodeId tail = kNoNode;
  uint64_t key = 0;  // of its random numbers (uniform_at in sampler.h)
  int32_t last_token = -1;
  int32_t generated = 0;    // own new tokens
  int32_t start = 0;        // virtual time of the first of them
  int32_t decided_at = -1;  // virtual time of its last token, or of its end when that had no token
  StopMatcher stop;
  std::unique_ptr<Constraint> constraint;  // of the request's grammar; nullptr: it has none
  std::optional<ForcedCursor> forced;      // in the request's forced answer
  BranchAcceptance acceptance;
  BranchState state = BranchState::waiting;
  bool scheduled = false;  // has rows in the current step
  bool preempted = false;  // waiting because its blocks were taken away
  bool ready = false;      // sampled in the last step in which it ran: the next one can sample it again
  Gate gate = Gate::open;
  int32_t rows_wanted = 0;  // in the step that is being scheduled
  int32_t to_score = 0;     // last tokens of the prompt whose log-probabilities are still wanted
  int64_t last_step = 0;    // that had rows of it

  bool can_step() const { return state == BranchState::running && gate == Gate::open; }
  int32_t time() const { return start + generated; }  // virtual time of its next token
};

// Candidates of a request that were verified, and those of them that were accepted.
struct DraftCount {
  int32_t drafted = 0;
  int32_t accepted = 0;
};

// What a step computes for a request.
struct StepFigures {
  int32_t rows = 0;
  int32_t live = 0;      // branches
  int32_t sampled = 0;   // branches with logits for their next token
  int32_t blocks = 0;    // that hold the K and V of the live branches' paths
  int32_t cached = 0;    // tokens with K and V in them, those of this step among them
  int64_t attended = 0;  // tokens, summed over the rows
};

// What is kept for the records of a traced request.
struct RequestTrace {
  StepFigures step;
  bool counted = false;    // `step` is of the current step, and not reported yet
  DraftCount drafts;       // reported so far
  double reported_at = 0;  // the decoder's clock at the end of the last record
};

// How a request keeps its token deadlines, by the policy `deadline` (deadline_policy.h).
struct RequestPace {
  bool begun = false;  // it has its first token; deadlines count
  double since = 0;    // from here, by the decoder's clock,
  int32_t tokens = 0;  // and from this number of tokens
  double slack = 0;    // seconds by which it is ahead of its deadlines
  int32_t width = 0;   // branches that the last step sampled
};

struct Request {
  RequestParams params;
  Tenant* tenant = nullptr;              // kept by the scheduler
  int64_t arrival = 0;                   // counts up
  StopStrings stops;                     // params.stop
  std::unique_ptr<ForcedAnswer> forced;  // params.forced; nullptr: none
  std::deque<Branch> branches;           // including those that have ended; index = id
  std::vector<Branch*> live;             // in order of id
  std::vector<const Branch*> recent;     // all that live_at() may count (virtual_order.h)
  int32_t cached_tokens = -1;            // prompt tokens found in the prefix cache; -1 before it first runs
  int32_t generated = 0;                 // new tokens so far, including forced ones
  std::unique_ptr<DraftSource> source;   // of candidates; nullptr: none
  std::vector<DraftCount> drafts;        // by depth; all in the first one if the source has no heads
  std::unique_ptr<RequestTrace> trace;   // nullptr: none was asked for
  RequestPace pace;
  double entered_at = 0;  // by the decoder's clock
  bool late = false;      // it has not run and cannot keep the deadline of its first token
  FinishReason outcome = FinishReason::stop;  // length if a branch ended with length; abort, error

  bool has_run() const { return cached_tokens >= 0; }
  int32_t remaining_tokens() const { return params.max_tokens - generated; }
  // Whether tokens that would end the branch are masked.
  bool must_go_on(const Branch& branch) const {
    return branch.id == kRootBranch && branch.generated < params.min_tokens;
  }
  // Whether a device that draws tokens can sample the branch's next one. Else the host needs the logits.
  bool fits_token_draw(const Branch& branch) const {
    return params.fit_token_draw() && !must_go_on(branch) && branch.constraint == nullptr;
  }
};

}  // namespace apar
