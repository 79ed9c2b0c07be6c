#pragma once

#include <vector>

#include "common/step_batch.h"

namespace apar {

// A copy of a step's batch. The ranks read the copy while the caller prepares the next batch.
class OwnedBatch {
 public:
  // Invalidates what batch() returned before. Allocates nothing while batches are no larger than an earlier
  // one.
  void assign(const StepBatch& batch);
  const StepBatch& batch() const { return batch_; }

 private:
  std::vector<int32_t> tokens_, positions_, slots_, path_, logit_rows_, blocks_;
  std::vector<SequenceRows> sequences_;
  std::vector<KvNodeView> nodes_;  // their blocks point into blocks_
  StepBatch batch_;
};

}  // namespace apar
