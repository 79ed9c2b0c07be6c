// One step: the batch and its candidates, the forward pass, and the tokens that it gives to each branch.
#include <bit>

#include "core/decoder.h"
#include "core/virtual_order.h"

namespace apar {
namespace {

constexpr double kStepTimeWeight = 0.05;  // of the newest step in the moving average

}  // namespace

bool Decoder::step(std::vector<Event>& events) {
  open_gates();
  policy_->step_begins(requests_, config_.clock());
  if (!scheduler_.schedule(requests_)) return false;
  bool drawn = false;
  StepRun run;
  try {
    drafts_.propose();
    const StepBatch& batch = scheduler_.build_batch();
    trace_.count(scheduler_, batch, steps_);
    const double begun = config_.clock();
    run_batch(batch, drawn);
    run.ended_at = config_.clock();
    run.seconds = run.ended_at - begun;
    load_.step_seconds += (run.seconds - load_.step_seconds) * (steps_ == 0 ? 1.0 : kStepTimeWeight);
    policy_->step_ran(requests_, batch, scheduler_.samples(), run);
  } catch (...) {
    scheduler_.discard();
    abort_all(FinishReason::error, events);
    throw;
  }
  scheduler_.update(run.seconds);
  ++steps_;
  try {
    drafts_.measured(run.seconds);
    take_prompt_rows(events);
    take_samples(drawn, events);
    drafts_.finish();
    trace_.report_rest(events);
  } catch (...) {
    scheduler_.end_candidates();
    abort_all(FinishReason::error, events);
    tree_.forget_cache();  // K and V of accepted candidates may not have been copied
    throw;
  }
  remove_finished();
  return true;
}

// The forward pass, and beside it the masks of the branches that it samples.
void Decoder::run_batch(const StepBatch& batch, bool& drawn) {
  to_prepare_.clear();
  for (const auto& [request, branch] : scheduler_.samples()) {
    if (branch->constraint != nullptr && !branch->constraint->prepared())
      to_prepare_.push_back(branch->constraint.get());
  }
  const auto prepare = [this] {
    const auto begun = std::chrono::steady_clock::now();
    for (Constraint* constraint : to_prepare_) constraint->prepare();
    grammar_masks_ += static_cast<int64_t>(to_prepare_.size());
    grammar_mask_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  };
  SideThread* const beside = to_prepare_.empty() ? nullptr : config_.beside;
  if (beside != nullptr)
    beside->begin(prepare);
  else
    prepare();
  try {
    const auto vocab = static_cast<size_t>(model_.config().vocab_size);
    drawn = draw_step(batch);
    if (!drawn) model_.forward(batch, std::span(logits_).first(batch.logit_rows.size() * vocab));
  } catch (...) {
    if (beside != nullptr) beside->finish();
    throw;
  }
  if (beside != nullptr) beside->finish();
}

void Decoder::open_gates() {
  for (Request& request : requests_) {
    for (Branch* branch : request.live) {
      if (branch->gate == Gate::open) continue;
      const bool forks = branch->gate == Gate::fork && fork_must_wait(request, *branch, When::next_step);
      if (!forks && !must_wait(request, *branch, When::next_step)) branch->gate = Gate::open;
    }
  }
}

void Decoder::take_prompt_rows(std::vector<Event>& events) {
  const auto vocab = static_cast<size_t>(model_.config().vocab_size);
  for (const PromptRow& row : scheduler_.prompt_rows()) {
    const RequestParams& params = row.request->params;
    const int32_t position = row.position + 1;
    logprobs_.set_logits(std::span(logits_).subspan(static_cast<size_t>(row.logits) * vocab, vocab));
    const auto emit = [&](int32_t token, float logprob) {
      events.push_back(
          {EventKind::prompt_logprob, params.id, position, token, std::bit_cast<int32_t>(logprob)});
    };
    const int32_t token = params.prompt[static_cast<size_t>(position)];
    emit(token, logprobs_.of(token));
    for (const Logprob& likely : logprobs_.top(params.prompt_logprobs)) emit(likely.token, likely.logprob);
    --row.branch->to_score;
  }
}

// Takes the step's samples, those of a request in virtual order. A sample that must wait is dropped: a later
// step computes the same logits again. Each time round gives a branch one token, as a step without
// candidates.
void Decoder::take_samples(bool drawn, std::vector<Event>& events) {
  const auto& samples = scheduler_.samples();
  untaken_.clear();
  for (size_t i = 0; i < samples.size(); ++i) {
    samples[i].branch->ready = true;
    untaken_.push_back({static_cast<int32_t>(i)});
  }
  for (bool progress = true; progress;) {
    progress = false;
    size_t kept = 0;
    for (Cursor at : untaken_) {
      const auto [request, branch] = samples[static_cast<size_t>(at.sample)];
      if (branch->state == BranchState::ended) continue;  // its request has ended earlier in this step
      const bool waits = must_wait(*request, *branch, When::now);
      progress = progress || !waits;
      if (waits || take_sample(at, drawn, events)) untaken_[kept++] = at;
    }
    untaken_.resize(kept);
  }
  for (const Cursor& at : untaken_) samples[static_cast<size_t>(at.sample)].branch->gate = Gate::token;
}

// Gives the branch its next token. Returns whether the step has logits for the one after it, from the row of
// a candidate that is this token; moves `at` there.
bool Decoder::take_sample(Cursor& at, bool drawn, std::vector<Event>& events) {
  const Sample& sample_of = scheduler_.samples()[static_cast<size_t>(at.sample)];
  const auto [request, branch] = sample_of;
  const auto vocab = static_cast<size_t>(model_.config().vocab_size);
  const size_t row = at.row < 0 ? scheduler_.logits_of(at.sample)
                                : scheduler_.samples().size() + static_cast<size_t>(at.row);
  const int32_t before = branch->generated;
  if (drawn)
    on_drawn_token(*request, *branch, drawn_[row], events);
  else
    sample(*request, *branch, std::span(logits_).subspan(row * vocab, vocab), events);
  if (branch->state == BranchState::ended || branch->generated == before) return false;
  drafts_.sampled(at.sample, static_cast<int32_t>(row));
  at.row = drafts_.accept(sample_of, at.sample, at.row);
  return at.row >= 0;
}

}  // namespace apar
