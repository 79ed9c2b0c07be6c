// What follows a forward pass for each branch: logit mask, sampling, a fork or the end of the branch.
#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

#include "core/decoder.h"
#include "core/virtual_order.h"

namespace apar {
namespace {

bool contains(const std::vector<int32_t>& values, int32_t value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

}  // namespace

void Decoder::sample(Request& request, Branch& branch, std::span<float> logits, std::vector<Event>& events) {
  const bool wants_logprobs = request.params.logprobs >= 0;
  if (wants_logprobs) logprobs_.set_logits(logits);
  for (const auto& [token, bias] : request.params.logit_bias) logits[static_cast<size_t>(token)] += bias;
  if (branch.constraint != nullptr) {
    branch.constraint->prepare();  // again, where the step has given the branch a token already
    if (!branch.constraint->allows_any()) return end_request(request, FinishReason::unmatched, events);
    branch.constraint->apply(logits);
  }
  if (request.must_go_on(branch)) mask_ends(request, branch, logits);
  const float refused = mask_logits(request, branch, logits);
  tree_.path(branch.tail, path_);
  path_tokens_.clear();
  for (const NodeId node : path_) path_tokens_.push_back(tree_.at(node).tokens);
  const int32_t position = tree_.at(branch.tail).end();
  const auto prompt = static_cast<int32_t>(request.params.prompt.size());
  const int32_t token =
      sampler_.sample(logits, request.params.sampling, path_tokens_, prompt, branch.key, position);
  if (token < 0) return end_request(request, FinishReason::not_finite, events);
  if (branch.forced) return on_forced_token(request, branch, events);
  if (waits_to_fork(request, branch, token)) return;
  if (refused > logits[static_cast<size_t>(token)]) ++forks_refused_;
  on_token(request, branch, token, events);
}

// Handles a sampled token: ends the branch, or appends the token and forks or stops at a limit.
void Decoder::on_token(Request& request, Branch& branch, int32_t token, std::vector<Event>& events) {
  branch.decided_at = branch.time();
  if (ends_branch(request, branch, token)) {
    if (request.params.logprobs >= 0 && request.params.prompt_logprobs >= 0) {
      events.push_back({EventKind::end_token, request.params.id, branch.id, token});
      emit_logprobs(request, branch, token, events);
    }
    return end_branch(request, branch, FinishReason::stop, events, token);
  }

  emit_token(request, branch, token, events);
  if (request.params.logprobs >= 0) emit_logprobs(request, branch, token, events);
  if (completes_stop(request, branch, token)) {
    end_branch(request, branch, FinishReason::stop, events);
  } else if (token == config_.tokens.fork) {
    fork(request, branch, events);
  }
  const int32_t limit = request.params.max_branch_tokens;
  if (request.live.empty()) return;
  if (request.remaining_tokens() == 0) {
    end_request(request, FinishReason::length, events);
  } else if (branch.state == BranchState::ended) {
    return;
  } else if (tree_.at(branch.tail).end() >= model_.config().context_tokens ||
             (limit > 0 && branch.generated >= limit)) {
    request.outcome = FinishReason::length;
    end_branch(request, branch, FinishReason::length, events);
  }
}

// Whether a sampled [Fork] is dropped until no branch behind can fork first.
bool Decoder::waits_to_fork(const Request& request, Branch& branch, int32_t token) const {
  if (token != config_.tokens.fork || !fork_must_wait(request, branch, When::now)) return false;
  branch.gate = Gate::fork;
  return true;
}

// Masks [Child], and [Fork] where the branch must not fork. Returns the logit of [Fork] before the mask if
// limits or the policy refused the fork, else -inf.
float Decoder::mask_logits(const Request& request, const Branch& branch, std::span<float> logits) const {
  constexpr float minus_inf = -std::numeric_limits<float>::infinity();
  const ControlTokens& tokens = config_.tokens;
  if (tokens.fork < 0) return minus_inf;
  logits[static_cast<size_t>(tokens.child)] = minus_inf;
  float& fork = logits[static_cast<size_t>(tokens.fork)];
  if (follows_control_token(branch)) {
    fork = minus_inf;
    return minus_inf;
  }
  if (may_fork(request, branch)) return minus_inf;
  return std::exchange(fork, minus_inf);
}

bool Decoder::follows_control_token(const Branch& branch) const {
  return branch.last_token == config_.tokens.fork || branch.last_token == config_.tokens.child;
}

bool Decoder::may_fork(const Request& request, const Branch& branch) const {
  if (branch.constraint != nullptr) return false;
  // [Fork], [Child] and one token of the child must fit the context.
  const bool room = tree_.at(branch.tail).end() + 3 <= model_.config().context_tokens;
  return room && within_limits(request, branch) && policy_->may_fork(request, branch, load_);
}

// Runs the step and samples on the device. Returns false, and runs nothing, when the device cannot sample or
// a row needs logits or path tokens on the host (logprobs, logit bias, penalties). Whether a row may fork
// depends on the rows before it, so the device samples twice: with [Fork] allowed and with [Fork] masked.
bool Decoder::draw_step(const StepBatch& batch) {
  if (!model_.draws() || !scheduler_.prompt_rows().empty()) return false;
  draws_.clear();
  const auto& samples = scheduler_.samples();
  const auto& candidates = scheduler_.candidates();
  for (size_t row = 0; row < batch.logit_rows.size(); ++row) {
    const size_t sample =
        row < samples.size() ? row : static_cast<size_t>(candidates[row - samples.size()].sample);
    const auto [request, branch] = samples[sample];
    const RequestParams& params = request->params;
    const SamplerParams& sampling = params.sampling;
    if (!request->fits_token_draw(*branch)) return false;
    TokenDraw& draw = draws_.emplace_back();
    draw.temperature = sampling.temperature;
    draw.top_p = sampling.top_p;
    draw.min_p = sampling.min_p;
    draw.top_k = sampling.top_k;
    draw.uniform = uniform_at(branch->key, batch.positions[static_cast<size_t>(batch.logit_rows[row])] + 1);
    draw.masked = config_.tokens.child;
    draw.maybe_masked = config_.tokens.fork;
  }
  drawn_.resize(draws_.size());
  model_.draw(batch, draws_, drawn_);
  return true;
}

void Decoder::on_drawn_token(Request& request, Branch& branch, const DrawnToken& drawn,
                             std::vector<Event>& events) {
  const bool after_control = follows_control_token(branch);
  const bool forks = config_.tokens.fork >= 0 && !after_control && may_fork(request, branch);
  const int32_t token = forks ? drawn.token : drawn.token_if_masked;
  if (token < 0) return end_request(request, FinishReason::not_finite, events);
  if (branch.forced) return on_forced_token(request, branch, events);
  if (waits_to_fork(request, branch, token)) return;
  const bool refused = config_.tokens.fork >= 0 && !after_control && !forks;
  if (refused && drawn.maybe_masked_logit > drawn.logit_if_masked) ++forks_refused_;
  on_token(request, branch, token, events);
}

void Decoder::emit_logprobs(const Request& request, const Branch& branch, int32_t token,
                            std::vector<Event>& events) {
  const auto emit = [&](int32_t id, float logprob) {
    events.push_back({EventKind::logprob, request.params.id, branch.id, id, std::bit_cast<int32_t>(logprob)});
  };
  emit(token, logprobs_.of(token));
  for (const Logprob& likely : logprobs_.top(request.params.logprobs)) emit(likely.token, likely.logprob);
}

// Adds an own token of the branch to its text.
bool Decoder::completes_stop(Request& request, Branch& branch, int32_t token) const {
  const StopStrings& stops = request.stops;
  if (stops.empty()) return false;
  const bool complete = branch.stop.push(stops, config_.text.of(token));
  if (token != config_.tokens.fork) return complete;
  const bool flushed = branch.stop.flush(stops);
  if (request.params.stop_scope == StopScope::document) branch.stop.restart(config_.text.mends_joints);
  return complete || flushed;
}

bool Decoder::ends_branch(const Request& request, const Branch& branch, int32_t token) const {
  const bool ignored = request.params.ignore_eos && branch.id == kRootBranch;
  return (!ignored && contains(config_.tokens.eos, token)) || contains(request.params.stop_tokens, token);
}

void Decoder::mask_ends(const Request& request, const Branch& branch, std::span<float> logits) const {
  constexpr float minus_inf = -std::numeric_limits<float>::infinity();
  std::vector<int32_t> ends = config_.tokens.eos;
  ends.insert(ends.end(), request.params.stop_tokens.begin(), request.params.stop_tokens.end());
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  // What a grammar cannot go on with is complete, however short.
  if (branch.constraint != nullptr && !branch.constraint->allows_other_than(ends)) return;
  for (const int32_t token : ends) logits[static_cast<size_t>(token)] = minus_inf;
}

void Decoder::emit_token(Request& request, Branch& branch, int32_t token, std::vector<Event>& events) {
  tree_.append(branch.tail, {&token, 1});
  branch.last_token = token;
  if (branch.forced) branch.forced->advance();
  if (branch.constraint != nullptr) branch.constraint->accept(token);
  ++request.generated;
  ++branch.generated;
  ++generated_;
  if (request.source != nullptr) request.source->append(branch.id, {&token, 1});
  events.push_back({EventKind::token, request.params.id, branch.id, token, 0});
}

// The parent's tail ends with [Fork]. Parent and child continue below it, each in a new node.
void Decoder::fork(Request& request, Branch& parent, std::vector<Event>& events) {
  const NodeId above = parent.tail;
  const int32_t position = tree_.at(above).end() - 1;

  Branch& child = request.branches.emplace_back();
  child.id = static_cast<int32_t>(request.branches.size()) - 1;
  begin_child(parent, parent.generated - 1, position, child);
  child.stop.begin(request.stops, false);
  if (parent.forced) child.forced = parent.forced->of_child();
  child.tail = tree_.add_child(above);
  request.live.push_back(&child);
  forget_past(request);
  request.recent.push_back(&child);

  const bool pinned = parent.state == BranchState::running;
  if (pinned) tree_.release_spare(above);  // candidates may lie there; what follows begins behind [Fork]
  parent.tail = tree_.add_continuation(above);
  if (pinned) tree_.at(parent.tail).pins = 1;
  tree_.release(above);

  ++forks_;
  events.push_back({EventKind::fork, request.params.id, parent.id, child.id, position});
  emit_token(request, child, config_.tokens.child, events);
  ++load_.live_branches;
  scheduler_.add_child(request, parent, child);
  policy_->forked();
}

}  // namespace apar
