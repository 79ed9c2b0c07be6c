#pragma once

#include <cstdint>

namespace apar {

// Where the draft heads go on: a row of a step's logits, and the token that was chosen from them.
struct DraftRow {
  int32_t logit_row = 0;  // index in StepBatch::logit_rows
  int32_t token = 0;
};

// A token that a draft head proposes, and the natural logarithm of its probability in that head's softmax.
// {-1, -infinity}: the head has no further candidate.
struct DraftCandidate {
  int32_t token = -1;
  float logprob = 0;

  bool operator==(const DraftCandidate&) const = default;
};

// The largest top_k of Model::draft().
constexpr int32_t kMaxDraftTokens = 64;

// Two slots of the KV pool: block * kBlockTokens + offset.
struct SlotCopy {
  int32_t from = 0;
  int32_t to = 0;

  bool operator==(const SlotCopy&) const = default;
};

}  // namespace apar
