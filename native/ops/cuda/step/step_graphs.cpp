#include "ops/cuda/step/step_graphs.h"

#include <cstdlib>
#include <string>
#include <utility>

#include "common/error.h"

namespace apar::cuda {
namespace {

// A longer step's kernels outlast their launches by far, and its sizes seldom come again.
constexpr int32_t kMaxRecordedRows = 512;

}  // namespace

bool graphs_of_environment() {
  const char* const name = std::getenv("APAR_CUDA_GRAPHS");
  const std::string value = name == nullptr ? "on" : name;
  if (value != "on" && value != "off")
    throw Error(ErrorCode::invalid_config, "APAR_CUDA_GRAPHS is on or off, not " + value);
  return value == "on";
}

void StepGraphs::begin(const StepShape& shape) {
  shape_ = shape;
  mode_ = Mode::direct;
  const auto known = graphs_.find(shape);
  if (known == graphs_.end()) return;
  if (known->second != nullptr) {
    mode_ = Mode::replay;
  } else {
    device_.begin_capture();
    mode_ = Mode::record;
  }
}

void StepGraphs::finish() {
  const Mode mode = std::exchange(mode_, Mode::idle);
  if (mode == Mode::direct && enabled_ && shape_.rows <= kMaxRecordedRows) graphs_.try_emplace(shape_);
  if (mode == Mode::record) graphs_[shape_] = device_.end_capture();
  if (mode == Mode::record || mode == Mode::replay) graphs_[shape_]->launch();
}

void StepGraphs::abandon() noexcept {
  if (std::exchange(mode_, Mode::idle) == Mode::record) device_.abandon_capture();
}

}  // namespace apar::cuda
