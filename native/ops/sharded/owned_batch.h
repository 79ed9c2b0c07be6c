#pragma once

#include <vector>

#include "common/step_batch.h"

namespace apar {

// A copy of a step's batch, for those who run the step while its owner plans the next one.
class OwnedBatch {
 public:
  // What batch() gave before is gone. Allocates nothing while batches are no larger than an earlier one.
  void assign(const StepBatch& batch);
  const StepBatch& batch() const { return batch_; }

 private:
  std::vector<int32_t> tokens_, positions_, slots_, path_, logit_rows_, blocks_;
  std::vector<SequenceRows> sequences_;
  std::vector<KvNodeView> nodes_;  // their blocks are in blocks_
  StepBatch batch_;
};

}  // namespace apar
