#include "ops/cuda/step_graphs.h"

namespace apar::cuda {
namespace {

// A longer step's kernels outlast their launches by far, and its sizes seldom come again.
constexpr int32_t kMaxRecordedRows = 512;

}  // namespace

void StepGraphs::begin(const StepShape& shape) {
  shape_ = shape;
  mode_ = Mode::direct;
  if (shape.rows > kMaxRecordedRows) return;
  const auto [known, added] = graphs_.try_emplace(shape, kUnrecorded);
  if (added) return;
  if (known->second == kUnrecorded) {
    device_.begin_capture();
    mode_ = Mode::record;
  } else {
    mode_ = Mode::replay;
  }
}

void StepGraphs::finish() {
  const Mode mode = mode_;
  mode_ = Mode::idle;
  if (mode == Mode::record) graphs_[shape_] = device_.end_capture();
  if (mode == Mode::record || mode == Mode::replay) device_.launch_graph(graphs_[shape_]);
}

}  // namespace apar::cuda
