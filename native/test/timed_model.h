#pragma once

#include <functional>

#include "fake_model.h"

namespace apar {

// A FakeModel on which a step takes the time that `seconds` says, by a clock of its own.
class TimedModel : public FakeModel {
 public:
  using FakeModel::FakeModel;

  void forward(const StepBatch& batch, std::span<float> logits) override {
    rows = batch.rows();
    if (before) before();
    now += seconds(rows);
    FakeModel::forward(batch, logits);
  }
  std::function<double()> clock() {
    return [this] { return now; };
  }

  std::function<double(int32_t)> seconds = [](int32_t) { return 0.01; };
  std::function<void()> before;  // of each step
  int32_t rows = 0;              // of the last step
  double now = 0;
};

}  // namespace apar
