#include "ops/cuda/step/step_graphs.h"

#include <utility>

namespace apar::cuda {
namespace {

// The kernels of a longer step take much longer than their launches, and its number of rows rarely occurs
// again.
constexpr int32_t kMaxCapturedRows = 512;

}  // namespace

void StepGraphs::begin(const StepShape& shape) {
  shape_ = shape;
  mode_ = Mode::direct;
  const auto known = graphs_.find(shape);
  if (known == graphs_.end()) return;
  if (known->second != nullptr) {
    mode_ = Mode::replay;
  } else {
    device_.begin_capture();
    mode_ = Mode::capture;
  }
}

void StepGraphs::finish() {
  const Mode mode = std::exchange(mode_, Mode::idle);
  if (mode == Mode::direct && enabled_ && shape_.rows <= kMaxCapturedRows) graphs_.try_emplace(shape_);
  if (mode == Mode::capture) graphs_[shape_] = device_.end_capture();
  if (mode == Mode::capture || mode == Mode::replay) graphs_[shape_]->launch();
}

void StepGraphs::abandon() noexcept {
  if (std::exchange(mode_, Mode::idle) == Mode::capture) device_.abandon_capture();
}

}  // namespace apar::cuda
