#pragma once

#include "core/draft/ngram_index.h"
#include "core/draft/source.h"

namespace apar {

// Prompt-lookup drafts: what followed the last tokens of the branch where they occurred before, in the
// prompt, in the branch's own text or in that of another branch of the request. One chain of candidates.
class NgramSource : public DraftSource {
 public:
  static constexpr int32_t kMaxDepth = 16;

  DraftKind kind() const override { return DraftKind::ngrams; }
  void append(int32_t branch, std::span<const int32_t> tokens) override { index_.append(branch, tokens); }
  void propose(int32_t branch, int32_t max_depth, std::vector<Candidate>& out) override;

 private:
  NgramIndex index_;
  std::vector<int32_t> tokens_;  // scratch
};

}  // namespace apar
