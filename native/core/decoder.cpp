#include "core/decoder.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string>

#include "common/error.h"
#include "core/virtual_order.h"

namespace apar {
namespace {

constexpr int32_t kMaxLogprobs = 20;  // OpenAI's limit

std::vector<int32_t> control_tokens(const ControlTokens& tokens) {
  std::vector<int32_t> all = tokens.eos;
  all.insert(all.end(), {tokens.fork, tokens.child});
  return all;
}

}  // namespace

double seconds_since_start() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Decoder::Decoder(Model& model, DecoderConfig config)
    : model_(model),
      config_(std::move(config)),
      tree_(model.num_blocks(), config_.prefix_cache),
      scheduler_(tree_, {config_.max_step_tokens, config_.max_branches, config_.watermark}),
      drafts_(model, scheduler_, tree_, control_tokens(config_.tokens), config_.clock),
      trace_(tree_, config_.clock),
      sampler_(model.config().vocab_size, {config_.tokens.fork, config_.tokens.child}),
      policy_(make_policy(config_.policy, config_.deadlines)) {
  const int32_t vocab = model.config().vocab_size;
  const auto require = [](bool good, const char* what) {
    if (!good) throw Error(ErrorCode::invalid_config, what);
  };
  const ControlTokens& tokens = config_.tokens;
  require(config_.max_branches >= 1, "max_branches must be at least 1");
  require(config_.max_branches <= config_.max_step_tokens, "max_branches must not exceed max_step_tokens");
  require(config_.max_step_tokens <= model.max_rows(),
          "max_step_tokens exceeds what the model was opened for");
  require(std::min(config_.max_step_tokens, StepDrafts::host_logit_rows(config_.max_branches)) <=
              model.max_logit_rows(),
          "max_branches exceeds what the model was opened for");
  require(tokens.fork < vocab && tokens.child < vocab, "a control token is outside the vocabulary");
  require((tokens.fork < 0) == (tokens.child < 0), "fork and child tokens must both be set or both be -1");
  require(tokens.fork < 0 || tokens.fork != tokens.child, "fork and child must be different tokens");
  for (const int32_t eos : tokens.eos) {
    require(eos >= 0 && eos < vocab, "an EOS token is outside the vocabulary");
    require(eos != tokens.fork && eos != tokens.child, "an EOS token must not be the fork or child token");
  }
  const TokenText& text = config_.text;
  require(!text.known() || text.offsets.size() == static_cast<size_t>(vocab) + 1,
          "the text of the tokens has another vocabulary size");
  require(!text.known() || (std::is_sorted(text.offsets.begin(), text.offsets.end()) &&
                            text.offsets.back() == text.bytes.size()),
          "the text of the tokens has wrong offsets");
  require(config_.watermark >= 0.0f && config_.watermark < 1.0f, "watermark must be in [0, 1)");
  load_.max_branches = config_.max_branches;
  logits_.resize(static_cast<size_t>(StepDrafts::host_logit_rows(config_.max_branches)) *
                 static_cast<size_t>(vocab));
}

void Decoder::validate(const RequestParams& params) const {
  const auto require = [](bool good, const char* what) {
    if (!good) throw Error(ErrorCode::invalid_request, what);
  };
  const ModelConfig& model = model_.config();
  require(params.id > 0, "id must be positive");
  require(!params.prompt.empty(), "the prompt is empty");
  require(params.max_tokens >= 1, "max_tokens must be at least 1");
  require(params.max_branches >= 1, "max_branches must be at least 1");
  require(params.max_depth >= 1, "max_depth must be at least 1");
  params.sampling.validate();
  for (const int32_t token : params.prompt) {
    require(token >= 0 && token < model.vocab_size, "a prompt token is outside the vocabulary");
  }
  require(std::isfinite(params.tenant.weight) && params.tenant.weight > 0, "weight must be positive");
  require(params.max_branch_tokens >= 0, "max_branch_tokens must not be negative");
  require(params.logprobs >= -1 && params.logprobs <= kMaxLogprobs, "logprobs must be -1 to 20");
  require(params.prompt_logprobs >= -1 && params.prompt_logprobs <= kMaxLogprobs,
          "prompt_logprobs must be -1 to 20");
  require(params.min_tokens >= 0 && params.min_tokens <= params.max_tokens,
          "min_tokens must be 0 to max_tokens");
  for (const int32_t token : params.stop_tokens) {
    require(token >= 0 && token < model.vocab_size, "a stop token is outside the vocabulary");
  }
  for (const auto& [token, bias] : params.logit_bias) {
    require(token >= 0 && token < model.vocab_size, "logit_bias has a token outside the vocabulary");
    require(std::isfinite(bias), "logit_bias must be finite");
  }
  require(params.stop.empty() || config_.text.known(), "stop strings need the text of the tokens");
  for (const std::string& stop : params.stop) require(!stop.empty(), "a stop string is empty");
  const auto prompt = static_cast<int64_t>(params.prompt.size());
  if (prompt >= model.context_tokens) {
    throw Error(ErrorCode::request_too_large, "the prompt fills the model's context");
  }
  require(params.grammar == nullptr || !params.ignore_eos, "a grammar excludes ignore_eos");
  validate_branches(params);
  validate_forced(params);
  // The longest path must fit the empty pool, or the request could never finish.
  const int64_t blocks = longest_path(params);
  if (blocks > tree_.pool().num_blocks()) {
    throw Error(ErrorCode::request_too_large, "the request may need " + std::to_string(blocks) +
                                                  " KV blocks, the pool has " +
                                                  std::to_string(tree_.pool().num_blocks()));
  }
}

// The most blocks that a path of the request can need, if it shares no prefix. A child starts a new block, so
// each level below the root can leave one block partly empty.
int64_t Decoder::longest_path(const RequestParams& params) const {
  const auto prompt = static_cast<int64_t>(params.prompt.size());
  const int64_t tokens = std::min<int64_t>(prompt + params.max_tokens, model_.config().context_tokens);
  const int64_t levels = std::min<int64_t>(params.max_depth - 1, params.max_tokens);
  return (tokens + kBlockTokens - 1) / kBlockTokens + levels;
}

void Decoder::submit(RequestParams params) {
  validate(params);
  if (by_id_.contains(params.id)) {
    throw Error(ErrorCode::duplicate_request, "request " + std::to_string(params.id) + " is running");
  }
  add_request(std::move(params));
}

void Decoder::add_request(RequestParams params) {
  std::list<Request> added(1);
  Request& request = added.front();
  request.params = std::move(params);
  const int32_t id = request.params.id;
  try {
    Branch& root = request.branches.emplace_back();
    // What a shared prefix costs in blocks must not make the longest path too long for the pool.
    const int64_t spare = tree_.pool().num_blocks() - longest_path(request.params);
    root.tail = tree_.attach(request.params.prompt, static_cast<int32_t>(spare));
    request.stops = StopStrings(request.params.stop);
    root.stop.begin(request.stops, config_.text.drops_leading_space);
    root.key = root_key(request.params.sampling.seed);
    if (request.params.branches.empty()) constrain(request, root);
    root.last_token = request.params.prompt.back();
    // The log of a request that has begun has them.
    const bool scores = request.params.prompt_logprobs >= 0 && request.params.branches.empty();
    root.to_score = scores ? static_cast<int32_t>(request.params.prompt.size()) - 1 : 0;
    request.live.push_back(&root);
    request.recent.push_back(&root);
    if (!request.params.forced.empty()) {
      request.forced = std::make_unique<ForcedAnswer>(std::move(request.params.forced), config_.tokens.fork);
      root.forced.emplace(*request.forced);
    } else {  // candidates are for what the model says
      request.source = make_source(config_.speculation, request.params.speculation, model_.draft_heads() > 0);
    }
    if (request.source != nullptr) request.source->append(kRootBranch, request.params.prompt);
    if (!request.params.branches.empty()) restore(request);
    request.entered_at = config_.clock();
    trace_.enter(request);
    by_id_.emplace(id, added.begin());
    scheduler_.enter(request);
  } catch (...) {
    for (const Branch& branch : request.branches) {
      if (branch.tail != kNoNode) tree_.release(branch.tail);
    }
    by_id_.erase(id);
    throw;
  }
  load_.live_branches += static_cast<int32_t>(request.live.size());
  requests_.splice(requests_.end(), added);
}

// The branch matches the request's grammar, if there is one, with all tokens of the answer on its path.
void Decoder::constrain(const Request& request, Branch& branch) {
  const RequestParams& params = request.params;
  if (params.grammar == nullptr) return;
  branch.constraint = std::make_unique<Constraint>(*params.grammar, model_.config().vocab_size);
  tree_.path(branch.tail, path_);
  size_t of_prompt = params.prompt.size();
  for (const NodeId node : path_) {
    const std::span<const int32_t> tokens = tree_.at(node).tokens;
    const size_t skipped = std::min(of_prompt, tokens.size());
    of_prompt -= skipped;
    for (const int32_t token : tokens.subspan(skipped)) branch.constraint->accept(token);
  }
}

void Decoder::end_branch(Request& request, Branch& branch, FinishReason reason, std::vector<Event>& events,
                         int32_t end_token) {
  scheduler_.finish(branch);
  tree_.release(branch.tail);
  branch.tail = kNoNode;
  --load_.live_branches;
  request.live.erase(std::find(request.live.begin(), request.live.end(), &branch));
  if (request.source != nullptr) request.source->end(branch.id);
  events.push_back(
      {EventKind::branch_end, request.params.id, branch.id, static_cast<int32_t>(reason), end_token + 1});
  if (!request.live.empty()) return;

  trace_.report(request, true, events);
  report_drafts(request, events);
  const auto outcome = static_cast<int32_t>(request.outcome);
  events.push_back(
      {EventKind::finish, request.params.id, kRootBranch, outcome, std::max(0, request.cached_tokens)});
}

void Decoder::report_drafts(const Request& request, std::vector<Event>& events) const {
  constexpr int32_t kDepthUnit = 256;
  for (size_t depth = 0; depth < request.drafts.size(); ++depth) {
    const auto [drafted, accepted] = request.drafts[depth];
    if (drafted == 0) continue;
    const int32_t source = static_cast<int32_t>(request.source->kind());
    events.push_back({EventKind::speculation, request.params.id,
                      source + kDepthUnit * static_cast<int32_t>(depth), drafted, accepted});
  }
}

void Decoder::end_request(Request& request, FinishReason reason, std::vector<Event>& events) {
  request.outcome = reason;
  while (!request.live.empty()) end_branch(request, *request.live.back(), reason, events);
}

void Decoder::abort(int32_t request_id, std::vector<Event>& events) {
  Request* request = find(request_id);
  if (request == nullptr) return;
  end_request(*request, FinishReason::abort, events);
  remove_finished();
}

void Decoder::abort_branch(int32_t request_id, int32_t branch_id, std::vector<Event>& events) {
  if (branch_id == kRootBranch) return abort(request_id, events);
  Request* request = find(request_id);
  if (request == nullptr || branch_id < 0) return;
  // Parents have smaller ids than their children: walking up from a branch until the id is at most branch_id
  // shows whether it is a descendant. Branches with larger ids, the descendants, end first.
  const std::vector<Branch*> live = request->live;
  for (auto it = live.rbegin(); it != live.rend(); ++it) {
    int32_t id = (*it)->id;
    while (id > branch_id) id = request->branches[static_cast<size_t>(id)].parent;
    if (id == branch_id) end_branch(*request, **it, FinishReason::abort, events);
  }
  remove_finished();
}

void Decoder::abort_all(FinishReason reason, std::vector<Event>& events) {
  for (Request& request : requests_) end_request(request, reason, events);
  remove_finished();
}

Request* Decoder::find(int32_t request_id) {
  const auto found = by_id_.find(request_id);
  return found == by_id_.end() ? nullptr : &*found->second;
}

void Decoder::remove_finished() {
  for (auto it = requests_.begin(); it != requests_.end();) {
    if (it->live.empty()) {
      by_id_.erase(it->params.id);
      scheduler_.leave(*it);
      it = requests_.erase(it);
    } else {
      ++it;
    }
  }
}

DecoderStats Decoder::stats() const {
  DecoderStats stats;
  for (const Request& request : requests_) {
    const bool runs = std::any_of(request.live.begin(), request.live.end(),
                                  [](const Branch* branch) { return branch->state == BranchState::running; });
    for (const Branch* branch : request.live) stats.preempted_branches += branch->preempted ? 1 : 0;
    ++(runs ? stats.running_requests : stats.waiting_requests);
  }
  stats.live_branches = load_.live_branches;
  stats.running_branches = scheduler_.running();
  stats.step_seconds = load_.step_seconds;
  stats.row_limit = scheduler_.row_limit();
  stats.forks_refused = forks_refused_;
  stats.grammar_masks = grammar_masks_;
  stats.grammar_mask_seconds = grammar_mask_seconds_;
  stats.free_blocks = tree_.pool().num_available();
  stats.cached_blocks = stats.free_blocks - tree_.pool().num_free();
  stats.used_blocks = tree_.pool().num_blocks() - stats.free_blocks;
  stats.steps = steps_;
  stats.generated_tokens = generated_;
  stats.cached_prompt_tokens = scheduler_.cached_rows();
  stats.prefill_tokens = scheduler_.prefill_rows();
  stats.forks = forks_;
  stats.preemptions = scheduler_.preemptions();
  stats.drafted_by_heads = drafts_.drafted(DraftKind::heads);
  stats.accepted_of_heads = drafts_.accepted(DraftKind::heads);
  stats.drafted_by_ngrams = drafts_.drafted(DraftKind::ngrams);
  stats.accepted_of_ngrams = drafts_.accepted(DraftKind::ngrams);
  return stats;
}

void Decoder::check_integrity() const {
  std::vector<TailReference> tails;
  int32_t running = 0;
  for (const Request& request : requests_) {
    for (const Branch* branch : request.live) {
      const bool pinned = branch->state == BranchState::running;
      tails.push_back({branch->tail, pinned});
      running += pinned ? 1 : 0;
    }
  }
  tree_.check_integrity(tails);
  if (static_cast<int32_t>(tails.size()) != load_.live_branches) {
    throw Error(ErrorCode::internal, "decoder: wrong number of live branches");
  }
  if (running != scheduler_.running())
    throw Error(ErrorCode::internal, "scheduler: wrong number of running branches");
  if (by_id_.size() != requests_.size())
    throw Error(ErrorCode::internal, "decoder: the request index has another size than the list");
}

}  // namespace apar
