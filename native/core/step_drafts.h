#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/draft/acceptance.h"
#include "core/draft/draft_policy.h"
#include "core/draft/source.h"
#include "core/request.h"
#include "core/scheduler.h"
#include "model/model.h"

namespace apar {

// The source of a request's candidates, of those that both the request and the engine allow; nullptr: none.
std::unique_ptr<DraftSource> make_source(Speculation allowed, Speculation wanted, bool has_heads);

// The candidates of one step after the other: collects them, chooses which of them are verified, and keeps
// the K and V of those that are accepted.
class StepDrafts {
 public:
  // Most candidates in a step that returns its logits to the host, where they take room.
  static constexpr int32_t kMostOnHost = 64;
  // Rows with logits in a step that draws on the device, where they take room, too. More rows than that never
  // pay.
  static constexpr int32_t kMostDrawn = 512;

  // The most rows with logits of any step that a scheduler with these limits builds: samples, and either
  // candidates or rows of prompts. A model needs room for so many.
  static int32_t logit_rows(int32_t max_step_tokens, int32_t max_branches);
  // The same for steps whose logits come to the host.
  static int32_t host_logit_rows(int32_t max_branches);

  // `barred` tokens are never candidates: a step accepts nothing behind them.
  StepDrafts(Model& model, Scheduler& scheduler, KvTree& tree, std::vector<int32_t> barred,
             std::function<double()> clock);

  // After Scheduler::schedule(): adds candidates to the step.
  void propose();
  // The step has run.
  void measured(double seconds);
  // A branch got its last token from `row` of the step's candidates, -1 for its own row. Returns the row of
  // the candidate that is this token; -1 if there is none. Then its K and V are the branch's.
  int32_t accept(const Sample& sample, int32_t sample_index, int32_t row);
  // The logits of `logit_row` gave the branch's last token: the heads may go on from there.
  void sampled(int32_t sample_index, int32_t logit_row);
  // After the last accept() of a step. Throws what the model throws.
  void finish();

  int64_t drafted(DraftKind kind) const { return drafted_[index(kind)]; }
  int64_t accepted(DraftKind kind) const { return accepted_[index(kind)]; }

 private:
  // The candidates of one branch.
  struct Offer {
    int32_t sample = 0;
    std::vector<Candidate> candidates;  // as the source proposed them
    std::vector<float> probabilities;   // that each is accepted, with all before it
    std::vector<int32_t> chosen_as;     // index in `chosen`; -1
    std::vector<Candidate> chosen;
    size_t first_row = 0, end_row = 0;  // among the step's candidates
  };
  struct Ranked {
    float probability;
    int32_t offer, candidate;
  };

  static size_t index(DraftKind kind) { return static_cast<size_t>(kind) - 1; }
  static DraftCount& count_of(Request& request, const Candidate& candidate);
  int32_t max_candidates(int32_t spare_rows) const;
  int32_t max_depth(const Request& request, const Branch& branch) const;
  void collect();
  void remove_barred(const Request& request, std::vector<Candidate>& candidates) const;
  void choose(int32_t count);
  Offer* offer_of(int32_t sample);
  void keep(const Branch& branch, int32_t row);
  void predict();

  Model& model_;
  Scheduler& scheduler_;
  KvTree& tree_;
  const std::vector<int32_t> barred_;
  const std::function<double()> clock_;
  DraftPolicy policy_;
  std::array<AcceptanceRates, 2> rates_;  // [source]
  std::array<int64_t, 2> drafted_{}, accepted_{};

  // Of the step.
  std::vector<Offer> offers_;
  size_t num_offers_ = 0;
  std::vector<int32_t> offer_of_;     // [sample]; -1
  std::vector<int32_t> sampled_row_;  // [sample]; -1: the heads have nothing to go on from
  std::vector<SlotCopy> copies_;
  std::vector<Ranked> ranked_;         // scratch
  std::vector<float> probabilities_;   // scratch
  std::vector<DraftRow> head_rows_;    // scratch
  std::vector<int32_t> head_of_;       // scratch: [head_rows_]
  std::vector<DraftCandidate> heads_;  // scratch
};

}  // namespace apar
