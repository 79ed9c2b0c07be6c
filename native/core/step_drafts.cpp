#include "core/step_drafts.h"

#include <algorithm>
#include <utility>

#include "core/draft/head_source.h"
#include "core/draft/ngram_source.h"

namespace apar {
namespace {

// Candidates that are less likely are never worth a row.
constexpr float kLeastProbability = 0.005f;

bool contains(const std::vector<int32_t>& values, int32_t value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

}  // namespace

std::unique_ptr<DraftSource> make_source(Speculation allowed, Speculation wanted, bool has_heads) {
  const auto may_be = [&](Speculation source) {
    return (allowed == source || allowed == Speculation::automatic) &&
           (wanted == source || wanted == Speculation::automatic);
  };
  if (has_heads && may_be(Speculation::heads)) return std::make_unique<HeadSource>();
  if (may_be(Speculation::ngram)) return std::make_unique<NgramSource>();
  return nullptr;
}

int32_t StepDrafts::host_logit_rows(int32_t max_branches) {
  return max_branches + std::max(kMostOnHost, Scheduler::kMostPromptRows);  // never both in a step
}

int32_t StepDrafts::logit_rows(int32_t max_step_tokens, int32_t max_branches) {
  return std::min(max_step_tokens, std::max(kMostDrawn, host_logit_rows(max_branches)));
}

StepDrafts::StepDrafts(Model& model, Scheduler& scheduler, KvTree& tree, std::vector<int32_t> barred,
                       std::function<double()> clock)
    : model_(model),
      scheduler_(scheduler),
      tree_(tree),
      barred_(std::move(barred)),
      clock_(std::move(clock)) {}

void StepDrafts::propose() {
  const size_t samples = scheduler_.samples().size();
  num_offers_ = 0;
  offer_of_.assign(samples, -1);
  sampled_row_.assign(samples, -1);
  copies_.clear();
  const int32_t most = max_candidates(scheduler_.spare_rows());
  if (most < 1 || !scheduler_.decodes_only() || !scheduler_.prompt_rows().empty()) return;
  for (AcceptanceRates& rates : rates_) rates.fade();
  collect();
  if (num_offers_ == 0) return;
  std::sort(ranked_.begin(), ranked_.end(), [](const Ranked& a, const Ranked& b) {
    if (a.probability != b.probability) return a.probability > b.probability;
    return a.offer != b.offer ? a.offer < b.offer : a.candidate < b.candidate;
  });
  probabilities_.clear();
  for (const Ranked& each : ranked_) probabilities_.push_back(each.probability);
  choose(policy_.choose(scheduler_.own_rows(), static_cast<int32_t>(samples), probabilities_, most));
}

// One request that the device cannot sample makes the whole step return its logits.
int32_t StepDrafts::max_candidates(int32_t spare_rows) const {
  const auto& samples = scheduler_.samples();
  const bool draws = model_.draws() && std::all_of(samples.begin(), samples.end(), [](const Sample& sample) {
                       return sample.request->fits_token_draw(*sample.branch);
                     });
  return draws ? std::min(spare_rows, model_.max_logit_rows() - static_cast<int32_t>(samples.size()))
               : std::min(spare_rows, kMostOnHost);
}

void StepDrafts::collect() {
  ranked_.clear();
  const auto& samples = scheduler_.samples();
  for (size_t i = 0; i < samples.size(); ++i) {
    const auto [request, branch] = samples[i];
    if (request->source == nullptr) continue;
    branch->acceptance.fade();
    if (offers_.size() == num_offers_) offers_.emplace_back();
    Offer& offer = offers_[num_offers_];
    request->source->propose(branch->id, max_depth(*request, *branch), offer.candidates);
    remove_barred(*request, offer.candidates);
    if (offer.candidates.empty()) continue;
    offer.sample = static_cast<int32_t>(i);
    offer.first_row = offer.end_row = 0;
    offer.probabilities.clear();
    const AcceptanceRates& rates = rates_[index(request->source->kind())];
    for (const Candidate& candidate : offer.candidates) {
      const float above =
          candidate.parent < 0 ? 1.0f : offer.probabilities[static_cast<size_t>(candidate.parent)];
      const float probability = above * rates.of(candidate, branch->acceptance);
      if (probability >= kLeastProbability)
        ranked_.push_back({probability, static_cast<int32_t>(num_offers_),
                           static_cast<int32_t>(offer.probabilities.size())});
      offer.probabilities.push_back(probability);
    }
    offer_of_[i] = static_cast<int32_t>(num_offers_++);
  }
}

// Candidates so deep that the branch could not use all of them would be wasted rows.
int32_t StepDrafts::max_depth(const Request& request, const Branch& branch) const {
  int32_t tokens =
      std::min(request.remaining_tokens(), model_.config().context_tokens - tree_.at(branch.tail).end());
  const int32_t limit = request.params.max_branch_tokens;
  if (limit > 0) tokens = std::min(tokens, limit - branch.generated);
  return tokens - 1;
}

void StepDrafts::remove_barred(const Request& request, std::vector<Candidate>& candidates) const {
  const auto allowed = [&](int32_t token) {
    return token >= 0 && !contains(barred_, token) && !contains(request.params.stop_tokens, token);
  };
  std::vector<int32_t> moved_to;
  size_t kept = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    Candidate candidate = candidates[i];
    const int32_t above = candidate.parent;
    if (above >= 0) candidate.parent = moved_to[static_cast<size_t>(above)];
    const bool keeps = allowed(candidate.token) && (above < 0 || candidate.parent >= 0);
    moved_to.push_back(keeps ? static_cast<int32_t>(kept) : -1);
    if (keeps) candidates[kept++] = candidate;
  }
  candidates.resize(kept);
}

// Adds the first `count` of ranked_ to the step. A candidate is less likely than its parent, so it comes
// after it.
void StepDrafts::choose(int32_t count) {
  for (size_t i = 0; i < num_offers_; ++i) {
    offers_[i].chosen.clear();
    offers_[i].chosen_as.assign(offers_[i].candidates.size(), -1);
  }
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    Offer& offer = offers_[static_cast<size_t>(ranked_[i].offer)];
    const auto at = static_cast<size_t>(ranked_[i].candidate);
    Candidate candidate = offer.candidates[at];
    if (candidate.parent >= 0) candidate.parent = offer.chosen_as[static_cast<size_t>(candidate.parent)];
    offer.chosen_as[at] = static_cast<int32_t>(offer.chosen.size());
    offer.chosen.push_back(candidate);
  }
  const auto& rows = scheduler_.candidates();
  for (size_t i = 0; i < num_offers_; ++i) {
    Offer& offer = offers_[i];
    offer.first_row = rows.size();
    scheduler_.add_candidates(offer.sample, offer.chosen);
    offer.end_row = rows.size();
    Request& request = *scheduler_.samples()[static_cast<size_t>(offer.sample)].request;
    for (size_t row = offer.first_row; row < offer.end_row; ++row) {
      ++count_of(request, offer.chosen[static_cast<size_t>(rows[row].proposed)]).drafted;
      ++drafted_[index(request.source->kind())];
    }
  }
}

void StepDrafts::measured(double seconds) {
  if (!scheduler_.decodes_only()) return;
  policy_.step_measured(scheduler_.own_rows() + static_cast<int32_t>(scheduler_.candidates().size()),
                        seconds);
}

DraftCount& StepDrafts::count_of(Request& request, const Candidate& candidate) {
  const bool by_depth = request.source->kind() == DraftKind::heads;
  const auto depth = static_cast<size_t>(by_depth ? candidate.depth : 0);
  if (request.drafts.size() <= depth) request.drafts.resize(depth + 1);
  return request.drafts[depth];
}

StepDrafts::Offer* StepDrafts::offer_of(int32_t sample) {
  const int32_t offer = offer_of_[static_cast<size_t>(sample)];
  return offer < 0 ? nullptr : &offers_[static_cast<size_t>(offer)];
}

int32_t StepDrafts::accept(const Sample& sample, int32_t sample_index, int32_t row) {
  const Offer* offer = offer_of(sample_index);
  if (offer == nullptr) return -1;
  const auto& rows = scheduler_.candidates();
  const size_t source = index(sample.request->source->kind());
  int32_t found = -1;
  for (size_t i = offer->first_row; i < offer->end_row; ++i) {
    if (rows[i].parent != row) continue;
    const Candidate& candidate = offer->chosen[static_cast<size_t>(rows[i].proposed)];
    const bool accepted = rows[i].token == sample.branch->last_token;
    rates_[source].record(candidate, sample.branch->acceptance, accepted);
    if (!accepted) continue;
    found = static_cast<int32_t>(i);
    ++count_of(*sample.request, candidate).accepted;
    ++accepted_[source];
  }
  if (found >= 0) keep(*sample.branch, found);
  return found;
}

// The branch's last token was computed by a candidate's row.
void StepDrafts::keep(const Branch& branch, int32_t row) {
  KvNode& tail = tree_.at(branch.tail);
  const int32_t slot = tail.slot(tail.computed++);
  const int32_t from = scheduler_.candidates()[static_cast<size_t>(row)].slot;
  if (from != slot) copies_.push_back({from, slot});
}

void StepDrafts::sampled(int32_t sample_index, int32_t logit_row) {
  sampled_row_[static_cast<size_t>(sample_index)] = logit_row;
}

void StepDrafts::finish() {
  scheduler_.end_candidates();
  if (!copies_.empty()) model_.copy_slots(copies_);
  if (model_.draft_heads() > 0) predict();
}

void StepDrafts::predict() {
  head_rows_.clear();
  head_of_.clear();
  const auto& samples = scheduler_.samples();
  for (size_t i = 0; i < samples.size(); ++i) {
    const auto [request, branch] = samples[i];
    if (sampled_row_[i] < 0 || branch->state != BranchState::running || branch->gate != Gate::open) continue;
    if (request->source == nullptr || request->source->kind() != DraftKind::heads) continue;
    head_rows_.push_back({sampled_row_[i], branch->last_token});
    head_of_.push_back(static_cast<int32_t>(i));
  }
  const auto branches = static_cast<int32_t>(head_rows_.size());
  if (!policy_.heads_pay(branches, max_candidates(scheduler_.row_limit() - branches))) return;
  const int32_t top_k = std::min(HeadSource::kTopTokens, model_.config().vocab_size);
  const size_t width = static_cast<size_t>(model_.draft_heads()) * static_cast<size_t>(top_k);
  heads_.assign(head_rows_.size() * width, {});
  const double begun = clock_();
  model_.draft(head_rows_, top_k, heads_);
  policy_.heads_measured(branches, clock_() - begun);
  for (size_t i = 0; i < head_of_.size(); ++i) {
    const auto [request, branch] = samples[static_cast<size_t>(head_of_[i])];
    request->source->predicted(branch->id, std::span(heads_).subspan(i * width, width), top_k);
  }
}

}  // namespace apar
