#include "ops/cuda/step/step_graphs.h"

#include <algorithm>
#include <utility>

namespace apar::cuda {
namespace {

// The kernels of a longer step take much longer than their launches, and its number of rows rarely occurs
// again. So no graph holds calls of cuBLASLt (kMinCublasLtRows in gemm/plan.h), which may be more than
// kernels.
constexpr int32_t kMaxCapturedRows = 511;

}  // namespace

void StepGraphs::begin(const StepShape& shape) {
  shape_ = shape;
  mode_ = Mode::direct;
  ++step_;
  const auto known = graphs_.find(shape);
  if (known == graphs_.end()) return;
  known->second.used = step_;
  if (known->second.graph != nullptr) {
    mode_ = Mode::replay;
  } else {
    device_.begin_capture();
    mode_ = Mode::capture;
  }
}

void StepGraphs::finish() {
  const Mode mode = std::exchange(mode_, Mode::idle);
  if (mode == Mode::direct && enabled_ && shape_.rows <= kMaxCapturedRows)
    graphs_.try_emplace(shape_, Kept{nullptr, step_});
  if (mode == Mode::capture) {
    std::unique_ptr<Graph> captured = device_.end_capture();
    make_room();
    graphs_[shape_].graph = std::move(captured);
  }
  if (mode == Mode::capture || mode == Mode::replay) graphs_[shape_].graph->launch();
}

// A shape that lost its graph begins anew: its next step launches directly.
void StepGraphs::make_room() {
  const auto has_graph = [](const auto& each) { return each.second.graph != nullptr; };
  if (std::count_if(graphs_.begin(), graphs_.end(), has_graph) < kMaxGraphs) return;
  auto oldest = graphs_.end();
  for (auto each = graphs_.begin(); each != graphs_.end(); ++each)
    if (has_graph(*each) && (oldest == graphs_.end() || each->second.used < oldest->second.used))
      oldest = each;
  graphs_.erase(oldest);
}

void StepGraphs::abandon() noexcept {
  if (std::exchange(mode_, Mode::idle) == Mode::capture) device_.abandon_capture();
}

}  // namespace apar::cuda
