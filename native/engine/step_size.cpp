#include "engine/step_size.h"

#include <algorithm>

#include "core/step_drafts.h"

namespace apar {
namespace {

constexpr int32_t kOnHost = 512, kOnGpu = 2048;

}  // namespace

int32_t step_tokens(int32_t wanted, int32_t max_branches, bool on_host) {
  if (wanted != 0) return wanted;
  return std::max(on_host ? kOnHost : kOnGpu, max_branches);
}

StepRows step_rows(int32_t max_step_tokens, int32_t max_branches) {
  return {max_step_tokens, StepDrafts::logit_rows(max_step_tokens, max_branches)};
}

}  // namespace apar
