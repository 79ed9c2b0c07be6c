#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/cuda/step/step_buffer.h"
#include "ops/cuda/step/step_data.h"
#include "test/cuda/device_array.h"

namespace apar::test {

// The uploaded words of a step (step_buffer.h).
inline std::vector<int32_t> step_words(const StepBatch& batch, const cuda::AttentionWork& work) {
  std::vector<int32_t> words;
  cuda::write_step(batch, work, words);
  return words;
}

// The same for rows without attention.
inline std::vector<int32_t> step_words(std::span<const int32_t> tokens, std::span<const int32_t> positions,
                                       std::span<const int32_t> slots, std::span<const int32_t> logit_rows) {
  cuda::AttentionWork work;
  work.build({}, 1, {});
  return step_words({tokens, positions, slots, {}, {}, {}, logit_rows}, work);
}

inline const cuda::StepHeader* header(const DeviceArray<int32_t>& step) {
  return reinterpret_cast<const cuda::StepHeader*>(step.data());
}

}  // namespace apar::test
