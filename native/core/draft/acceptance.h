#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/draft/candidate.h"

namespace apar {

// How likely a branch accepts candidates, compared with others of its request's source. Old outcomes fade, so
// a branch that begins to copy is noticed, and one that has stopped.
class BranchAcceptance {
 public:
  float factor() const { return (accepted_ + kWeight) / (expected_ + kWeight); }
  void record(float expected, bool accepted) {
    fade();
    expected_ += expected;
    accepted_ += accepted ? 1.0f : 0.0f;
  }
  // Once for each step: a branch without candidates is as good as any after a while.
  void fade() {
    expected_ *= kFade;
    accepted_ *= kFade;
  }

 private:
  static constexpr float kWeight = 2;  // of what is assumed, in candidates
  static constexpr float kFade = 0.98f;
  float expected_ = 0, accepted_ = 0;
};

// The measured share of a source's candidates that were accepted, of those whose parents were, by bucket.
class AcceptanceRates {
 public:
  static constexpr int32_t kBuckets = 32;

  // In [0, kMost].
  float of(const Candidate& candidate, const BranchAcceptance& branch) const {
    return std::min(kMost, source_rate(candidate) * branch.factor());
  }
  // The candidate was compared with the token that the branch got at its position.
  void record(const Candidate& candidate, BranchAcceptance& branch, bool accepted) {
    branch.record(std::min(kMost, source_rate(candidate)), accepted);
    Bucket& bucket = bucket_of(candidate);
    bucket.tried = bucket.tried * kFade + 1.0f;
    bucket.accepted = bucket.accepted * kFade + (accepted ? 1.0f : 0.0f);
  }

  // Once for each step: candidates that became too unlikely to be tried are tried again some time.
  void fade() {
    for (Bucket& bucket : buckets_) bucket.tried *= kStepFade, bucket.accepted *= kStepFade;
  }

 private:
  struct Bucket {
    float tried = 0, accepted = 0;
  };
  static constexpr float kWeight = 3;    // of the prior, in candidates
  static constexpr float kFade = 0.99f;  // the last 100 candidates count
  static constexpr float kStepFade = 0.9999f;
  static constexpr float kMost = 0.98f;

  float source_rate(const Candidate& candidate) const {
    const Bucket& bucket = buckets_[static_cast<size_t>(candidate.bucket)];
    return (bucket.accepted + kWeight * candidate.prior) / (bucket.tried + kWeight);
  }
  Bucket& bucket_of(const Candidate& candidate) { return buckets_[static_cast<size_t>(candidate.bucket)]; }

  std::array<Bucket, kBuckets> buckets_{};
};

}  // namespace apar
