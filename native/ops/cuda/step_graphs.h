#pragma once

#include <compare>
#include <cstdint>
#include <map>

#include "ops/cuda/device.h"

namespace apar::cuda {

// What fixes a step's launches: the padded numbers of rows, and whether only some of the rows go on to the
// logits.
struct StepShape {
  int32_t rows = 0;
  int32_t logit_rows = 0;
  bool gathers = false;
  auto operator<=>(const StepShape&) const = default;
};

// Records the launches of a shape's second step (the first finds every buffer its size) and repeats them from
// then on: while replaying, operations launch nothing.
class StepGraphs {
 public:
  explicit StepGraphs(Device& device) : device_(device) {}

  // Throws what the device throws; then this object can still begin the next step.
  void begin(const StepShape& shape);
  bool replaying() const { return mode_ == Mode::replay; }
  // Whether a step has begun and not finished.
  bool open() const { return mode_ != Mode::idle; }
  // The step's launches are on their way to the device.
  void finish();
  // Records every shape anew, after a step of each: a buffer has moved. Not while recording.
  void forget() { graphs_.clear(); }

 private:
  enum class Mode : uint8_t { idle, direct, record, replay };
  static constexpr int32_t kUnrecorded = -1;

  Device& device_;
  Mode mode_ = Mode::idle;
  StepShape shape_;
  std::map<StepShape, int32_t> graphs_;
};

}  // namespace apar::cuda
