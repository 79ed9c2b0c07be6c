#pragma once

#include "core/draft/source.h"

namespace apar {

// Candidates from the checkpoint's Medusa heads (arXiv 2401.10774). Head i ranks the tokens at depth i; a
// sparse tree takes the paths whose probabilities, multiplied over their heads, are largest.
class HeadSource : public DraftSource {
 public:
  // As the tree [1, 7, 6] of APAR's reference: 7 tokens at the first depth, 6 below each at the others.
  static constexpr int32_t kTopTokens = 7;
  static constexpr int32_t kTopBelow = 6;
  static constexpr size_t kMostCandidates = 49;

  DraftKind kind() const override { return DraftKind::heads; }
  void append(int32_t branch, std::span<const int32_t> tokens) override;
  void predicted(int32_t branch, std::span<const DraftCandidate> heads, int32_t top_k) override;
  void end(int32_t branch) override;
  void propose(int32_t branch, int32_t max_depth, std::vector<Candidate>& out) override;

 private:
  struct Prediction {
    std::vector<DraftCandidate> heads;  // [heads, top_k]; empty: none for the branch's last token
    int32_t top_k = 0;
  };
  struct Open {
    float logprob;   // of the whole path
    int32_t parent;  // as in Candidate
    int32_t depth, rank;
  };

  Prediction& of(int32_t branch);

  std::vector<Prediction> branches_;
  std::vector<Open> open_;       // scratch: a heap
  std::vector<float> logprobs_;  // scratch: of the path to each candidate
};

}  // namespace apar
