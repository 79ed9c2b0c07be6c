#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>

#include "ops/cuda/device/device.h"

namespace apar::cuda {

// What fixes a step's launches: the padded numbers of rows, and whether only some of the rows go on to the
// logits.
struct StepShape {
  int32_t rows = 0;
  int32_t logit_rows = 0;
  bool gathers = false;
  auto operator<=>(const StepShape&) const = default;
};

// What APAR_CUDA_GRAPHS in the environment says: "on", which is the default, or "off". Throws
// Error{invalid_config} for anything else.
bool graphs_of_environment();

// Records the launches of a shape's second step (the first loads the kernels' code) and repeats them from
// then on: while replaying, operations launch nothing. Not `enabled`, every step runs directly.
class StepGraphs {
 public:
  explicit StepGraphs(Device& device, bool enabled = true) : device_(device), enabled_(enabled) {}
  ~StepGraphs() { abandon(); }
  StepGraphs(const StepGraphs&) = delete;
  StepGraphs& operator=(const StepGraphs&) = delete;

  // Throws what the device throws, as finish() does; then this object can still begin the next step.
  void begin(const StepShape& shape);
  bool replaying() const { return mode_ == Mode::replay; }
  // Whether a step has begun and not finished.
  bool open() const { return mode_ != Mode::idle; }
  // The step's launches are on their way to the device.
  void finish();
  // Ends a step that failed: what was recorded of it is dropped, for it is not the whole step.
  void abandon() noexcept;

  // One of a step's operations: unless it is done(), its end abandons the step.
  class Operation {
   public:
    explicit Operation(StepGraphs& graphs) : graphs_(graphs) {}
    ~Operation() {
      if (!done_) graphs_.abandon();
    }
    Operation(const Operation&) = delete;
    Operation& operator=(const Operation&) = delete;
    void done() { done_ = true; }

   private:
    StepGraphs& graphs_;
    bool done_ = false;
  };

 private:
  enum class Mode : uint8_t { idle, direct, record, replay };

  Device& device_;
  bool enabled_;
  Mode mode_ = Mode::idle;
  StepShape shape_;
  std::map<StepShape, std::unique_ptr<Graph>> graphs_;  // null: to be recorded
};

}  // namespace apar::cuda
