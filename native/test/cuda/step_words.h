#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/cuda/step/step_buffer.h"
#include "ops/cuda/step/step_data.h"
#include "test/cuda/device_array.h"

namespace apar::test {

// A step's header with these rows and nothing to attend to.
inline std::vector<int32_t> step_words(std::span<const int32_t> tokens, std::span<const int32_t> positions,
                                       std::span<const int32_t> slots, std::span<const int32_t> logit_rows) {
  cuda::AttentionWork work;
  work.build({}, 1, 0);
  std::vector<int32_t> words;
  cuda::write_step({tokens, positions, slots, {}, {}, {}, logit_rows}, work, words);
  return words;
}

inline const cuda::StepHeader* header(const DeviceArray<int32_t>& step) {
  return reinterpret_cast<const cuda::StepHeader*>(step.data());
}

}  // namespace apar::test
