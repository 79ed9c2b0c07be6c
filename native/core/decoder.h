#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <unordered_map>
#include <vector>

#include "common/side_thread.h"
#include "core/branch_policy.h"
#include "core/logprobs.h"
#include "core/request.h"
#include "core/sampler.h"
#include "core/scheduler.h"
#include "core/step_drafts.h"
#include "core/step_trace.h"
#include "core/token_text.h"
#include "model/model.h"

namespace apar {

// Ids of the control tokens in the checkpoint's tokenizer.
struct ControlTokens {
  int32_t fork = -1;   // [Fork]; -1: the checkpoint cannot fork
  int32_t child = -1;  // [Child]; -1 if fork is -1
  std::vector<int32_t> eos;
};

// A monotonic clock.
double seconds_since_start();

struct DecoderConfig {
  ControlTokens tokens;
  int32_t max_step_tokens = 0;
  int32_t max_branches = 0;  // that a step samples, of all requests
  bool prefix_cache = true;
  PolicyKind policy = PolicyKind::eager;
  Deadlines deadlines = {};  // of PolicyKind::deadline
  float watermark = 0.01f;   // share of the blocks kept free for running branches at admission; [0, 1)
  std::function<double()> clock = seconds_since_start;  // in seconds
  TokenText text = {};
  Speculation speculation = Speculation::automatic;  // that requests may use
  SideThread* beside = nullptr;  // prepares masks during forward passes; nullptr: they are prepared before
};

struct DecoderStats {
  int32_t running_requests = 0;
  int32_t waiting_requests = 0;
  int32_t live_branches = 0;
  int32_t running_branches = 0;
  int32_t preempted_branches = 0;  // waiting for blocks after a preemption
  int32_t free_blocks = 0;         // including those of the prefix cache
  int32_t cached_blocks = 0;       // used by the prefix cache only
  int32_t used_blocks = 0;         // pinned by running branches
  int64_t steps = 0;
  int64_t generated_tokens = 0;
  int64_t prefill_tokens = 0;
  int64_t cached_prompt_tokens = 0;  // found in the prefix cache
  int64_t forks = 0;
  int64_t forks_refused = 0;  // limits or policy masked a [Fork] with a higher logit than the sampled token
  int64_t preemptions = 0;
  // Candidates that were verified and accepted, of the checkpoint's heads and of n-grams.
  int64_t drafted_by_heads = 0, accepted_of_heads = 0;
  int64_t drafted_by_ngrams = 0, accepted_of_ngrams = 0;
  // Masks of branches whose text a grammar constrains, made beside forward passes, and the time for all of
  // them.
  int64_t grammar_masks = 0;
  double grammar_mask_seconds = 0;
  double step_seconds = 0;  // of one forward pass, averaged over about the last 20
  int32_t row_limit = 0;    // rows that the last step could have
};

// APAR decoding (arXiv 2401.06761) of many requests in one batch: each step runs one forward pass over the
// scheduled branches, samples a token for each and forks. Owns the state of all requests and uses one model;
// has no threads and no device code. Every accepted request ends with exactly one finish event. Not
// thread-safe.
class Decoder {
 public:
  Decoder(Model& model, DecoderConfig config);

  // Throws Error{invalid_request}, or Error{request_too_large} when the request's longest path can never fit
  // the pool or the context. Reads only constant state, so any thread may call it.
  void validate(const RequestParams& params) const;
  // validate(), then add_request(). Also throws Error{duplicate_request}.
  void submit(RequestParams params);
  // Adds a request that validate() has accepted and whose id is not in use. A request with `branches` goes on
  // after them with the same tokens, branch ids and limits, and emits no events for what it restores. If
  // memory runs out, throws std::bad_alloc and has added nothing.
  void add_request(RequestParams params);
  // Ends a request, or a branch and all its descendants. Ignores unknown ids: they may just have ended.
  void abort(int32_t request_id, std::vector<Event>& events);
  void abort_branch(int32_t request_id, int32_t branch_id, std::vector<Event>& events);
  // Ends every request.
  void abort_all(FinishReason reason, std::vector<Event>& events);

  // Runs one step and appends its events. Returns false when there are no requests; with requests there is
  // always something to compute, and the engine takes false for a failure. If the model throws, every request
  // ends with reason error and the exception is rethrown.
  bool step(std::vector<Event>& events);

  bool idle() const { return requests_.empty(); }
  const TokenText& text() const { return config_.text; }
  DecoderStats stats() const;
  // Throws Error{internal} if any count is wrong. For tests and debug builds.
  void check_integrity() const;

 private:
  using RequestIterator = std::list<Request>::iterator;
  // How far a branch is in the samples of a step.
  struct Cursor {
    int32_t sample;
    int32_t row = -1;  // of the accepted candidate whose logits come next; -1: the branch's own row
  };

  void validate_branches(const RequestParams& params) const;
  void validate_forced(const RequestParams& params) const;
  int64_t longest_path(const RequestParams& params) const;
  void restore(Request& request);
  void constrain(const Request& request, Branch& branch);
  void open_gates();
  void take_prompt_rows(std::vector<Event>& events);
  void take_samples(bool drawn, std::vector<Event>& events);
  bool take_sample(Cursor& at, bool drawn, std::vector<Event>& events);
  void run_batch(const StepBatch& batch, bool& drawn);
  void report_drafts(const Request& request, std::vector<Event>& events) const;
  void sample(Request& request, Branch& branch, std::span<float> logits, std::vector<Event>& events);
  void on_token(Request& request, Branch& branch, int32_t token, std::vector<Event>& events);
  bool draw_step(const StepBatch& batch);
  void on_drawn_token(Request& request, Branch& branch, const DrawnToken& drawn, std::vector<Event>& events);
  void on_forced_token(Request& request, Branch& branch, std::vector<Event>& events);
  bool waits_to_fork(const Request& request, Branch& branch, int32_t token) const;
  bool follows_control_token(const Branch& branch) const;
  bool may_fork(const Request& request, const Branch& branch) const;
  float mask_logits(const Request& request, const Branch& branch, std::span<float> logits) const;
  void emit_logprobs(const Request& request, const Branch& branch, int32_t token, std::vector<Event>& events);
  bool completes_stop(Request& request, Branch& branch, int32_t token) const;
  bool ends_branch(const Request& request, const Branch& branch, int32_t token) const;
  void mask_ends(const Request& request, const Branch& branch, std::span<float> logits) const;
  void emit_token(Request& request, Branch& branch, int32_t token, std::vector<Event>& events);
  void fork(Request& request, Branch& parent, std::vector<Event>& events);
  void end_branch(Request& request, Branch& branch, FinishReason reason, std::vector<Event>& events,
                  int32_t end_token = -1);
  void end_request(Request& request, FinishReason reason, std::vector<Event>& events);
  void remove_finished();
  Request* find(int32_t request_id);

  Model& model_;
  DecoderConfig config_;
  KvTree tree_;
  Scheduler scheduler_;
  StepDrafts drafts_;
  StepTrace trace_;
  Sampler sampler_;
  std::unique_ptr<BranchPolicy> policy_;
  Logprobs logprobs_;
  EngineLoad load_;
  std::list<Request> requests_;  // in order of arrival
  std::unordered_map<int32_t, RequestIterator> by_id_;
  std::vector<float> logits_;  // [logit rows of a step, vocab]
  std::vector<TokenDraw> draws_;
  std::vector<DrawnToken> drawn_;
  std::vector<Constraint*> to_prepare_;                // scratch
  std::vector<Cursor> untaken_;                        // samples of the step
  std::vector<NodeId> path_;                           // scratch
  std::vector<std::span<const int32_t>> path_tokens_;  // scratch
  int64_t steps_ = 0;
  int64_t generated_ = 0;
  int64_t forks_ = 0;
  int64_t forks_refused_ = 0;
  int64_t grammar_masks_ = 0;
  double grammar_mask_seconds_ = 0;
};

}  // namespace apar
