#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>

#include "ops/cuda/device/device.h"

namespace apar::cuda {

// The shape of a step, which determines its launches: the padded numbers of rows, and whether logits are
// computed for only some of the rows.
struct StepShape {
  int32_t rows = 0;
  int32_t logit_rows = 0;
  bool gathers = false;
  auto operator<=>(const StepShape&) const = default;
};

// The most graphs that exist at a time: the driver keeps device memory for each. Steps that only decode, with
// candidates or without, have as many shapes as there are padded numbers of rows, half as many as this.
constexpr int32_t kMaxGraphs = 32;

// What the driver keeps for a graph. It does not say so in advance: 10 KB per kernel were measured
// (NVIDIA/cccl, pull request 3768). A layer has fewer than kGraphNodesPerLayer launches, those of the
// all-reduce included, and the rest of a step fewer than one layer.
constexpr uint64_t kGraphNodeBytes = 10240;
constexpr int32_t kGraphNodesPerLayer = 24;

// Captures the launches of the second step of each shape as a CUDA graph (the first step loads the kernels'
// code) and replays the graph in later steps, in which operations launch nothing. The graph that was used the
// longest ago makes way for one more than kMaxGraphs. If not `enabled`, every step launches directly.
class StepGraphs {
 public:
  explicit StepGraphs(Device& device, bool enabled = true) : device_(device), enabled_(enabled) {}
  ~StepGraphs() { abandon(); }
  StepGraphs(const StepGraphs&) = delete;
  StepGraphs& operator=(const StepGraphs&) = delete;

  // begin() and finish() throw what the device throws. After that, the next step can begin.
  void begin(const StepShape& shape);
  bool replaying() const { return mode_ == Mode::replay; }
  // Whether a step has begun and has not finished.
  bool open() const { return mode_ != Mode::idle; }
  // Ends the step: all of its launches have been issued to the device.
  void finish();
  // Ends a step that failed and discards its capture, which is not the whole step.
  void abandon() noexcept;

  // Guards one operation of a step: its destructor abandons the step unless done() was called.
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
  enum class Mode : uint8_t { idle, direct, capture, replay };
  struct Kept {
    std::unique_ptr<Graph> graph;  // null: to be captured in the next step
    int64_t used = 0;              // the last step with this shape
  };

  void make_room();

  Device& device_;
  bool enabled_;
  Mode mode_ = Mode::idle;
  StepShape shape_;
  int64_t step_ = 0;
  std::map<StepShape, Kept> graphs_;
};

}  // namespace apar::cuda
