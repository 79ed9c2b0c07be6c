// Captured steps, and steps that fail during a capture: the next step is computed completely.
#include <doctest/doctest.h>

#include "common/error.h"
#include "ops/cuda/cuda_ops.h"
#include "ops/cuda/emulator/emulated_device.h"
#include "ops/cuda/step/step_graphs.h"
#include "test/cuda/device_array.h"

using namespace apar;
using namespace apar::cuda;
using namespace apar::test;

namespace {

// Enqueues a launch that appends `number` to `ran`.
void add(EmulatedDevice& device, std::vector<int>& ran, int number) {
  device.enqueue([&ran, number] { ran.push_back(number); });
}

constexpr int32_t kWidth = 8, kVocab = 20;

// A model of embedding, norm and logits. A step has one row.
class SmallModel {
 public:
  SmallModel() {
    auto owned = std::make_unique<EmulatedDevice>();
    device_ = owned.get();
    const OpsConfig config = {.num_layers = 1,
                              .num_heads = 1,
                              .num_kv_heads = 1,
                              .head_dim = kWidth,
                              .num_blocks = 1,
                              .max_rows = 2,
                              .max_context = kBlockTokens,
                              .max_inputs = kWidth,
                              .hidden_size = kWidth,
                              .intermediate_size = kWidth,
                              .vocab_size = kVocab};
    ops_ = std::make_unique<CudaOps>(config, std::move(owned));
    std::mt19937 random(11);
    table_ = random_floats(random, size_t{kVocab} * kWidth);
    const std::vector<float> ones(kWidth, 1.0f);
    embedding_ = ops_->place({table_.data(), DType::f32, kVocab, kWidth}, Axis::whole);
    norm_ = ops_->place({ones.data(), DType::f32, 1, kWidth}, Axis::whole);
    head_ = ops_->place_linear({table_.data(), DType::f32, kVocab, kWidth}, WeightFormat::f32, {});
    x_ = ops_->allocate(size_t{2} * kWidth, Axis::whole);
    out_ = ops_->allocate(size_t{2} * kWidth, Axis::whole);
  }

  std::vector<float> step(int32_t token) {
    const int32_t zero = 0;
    const SequenceRows sequence = {0, 1, 0, 1, 1};
    const KvNodeView node = {{&zero, 1}, 0, 1};
    std::vector<float> logits(kVocab);
    ops_->begin_step(
        {{&token, 1}, {&zero, 1}, {&zero, 1}, {&sequence, 1}, {&node, 1}, {&zero, 1}, {&zero, 1}});
    ops_->embed(embedding_, x_);
    ops_->rms_norm(x_, nullptr, static_cast<const float*>(norm_.data), 1, kWidth, 1e-5f, out_);
    ops_->logits(out_, 1, head_, logits);
    return logits;
  }

  EmulatedDevice& device() { return *device_; }

 private:
  EmulatedDevice* device_;
  std::unique_ptr<CudaOps> ops_;
  std::vector<float> table_;
  Matrix embedding_, norm_;
  Linear head_;
  float *x_, *out_;
};

}  // namespace

TEST_CASE("the second step of a shape is captured, and later ones replay the graph") {
  EmulatedDevice device;
  std::vector<int> ran;
  {
    StepGraphs graphs(device);
    for (int step = 0; step < 4; ++step) {
      graphs.begin({1, 1, false});
      CHECK(graphs.replaying() == (step >= 2));
      if (!graphs.replaying()) add(device, ran, step);
      graphs.finish();
    }
    CHECK(ran == std::vector<int>{0, 1, 1, 1});
    CHECK(device.graphs() == 1);
  }
  CHECK(device.graphs() == 0);
}

TEST_CASE("of more shapes than there may be graphs, the one used the longest ago loses its graph") {
  EmulatedDevice device;
  std::vector<int> ran;
  StepGraphs graphs(device);
  const auto step = [&](int32_t rows, int number) {
    graphs.begin({rows, rows, false});
    const bool replays = graphs.replaying();
    if (!replays) add(device, ran, number);
    graphs.finish();
    return replays;
  };
  for (int32_t rows = 1; rows <= kMaxGraphs; ++rows) {
    CHECK(!step(rows, rows));
    CHECK(!step(rows, rows));
  }
  CHECK(device.graphs() == kMaxGraphs);
  CHECK(step(1, -1));  // so the second one is the oldest
  CHECK(!step(kMaxGraphs + 1, 0));
  CHECK(!step(kMaxGraphs + 1, 0));
  CHECK(device.graphs() == kMaxGraphs);
  CHECK(step(1, -1));
  CHECK(step(3, -1));
  CHECK(!step(2, 100));
  CHECK(!step(2, 200));
  CHECK(step(2, -1));
  CHECK(ran.back() == 200);
  CHECK(device.graphs() == kMaxGraphs);
}

TEST_CASE("the capture of an abandoned step is discarded, and the next step of the shape is captured") {
  EmulatedDevice device;
  std::vector<int> ran;
  StepGraphs graphs(device);
  graphs.begin({1, 1, false});
  graphs.finish();
  graphs.begin({1, 1, false});
  {
    const StepGraphs::Operation operation(graphs);
    add(device, ran, 1);
  }
  CHECK(!graphs.open());
  CHECK(device.graphs() == 0);
  graphs.begin({1, 1, false});
  REQUIRE(!graphs.replaying());
  add(device, ran, 2);
  add(device, ran, 3);
  graphs.finish();
  CHECK(ran == std::vector<int>{2, 3});
}

TEST_CASE("after a step that failed at any of its launches, later steps are right") {
  const std::vector<float> want[] = {SmallModel().step(3), SmallModel().step(4)};
  CHECK(want[0] != want[1]);
  for (const int steps_before : {0, 1, 2}) {
    for (int32_t launch = 0; launch < 3; ++launch) {
      CAPTURE(steps_before);
      CAPTURE(launch);
      SmallModel model;
      for (int step = 0; step < steps_before; ++step) REQUIRE(model.step(3) == want[0]);
      model.device().fail_launch_after(launch);
      if (steps_before < 2) {
        CHECK_THROWS_AS(model.step(3), Error);
      } else {
        CHECK(model.step(3) == want[0]);  // a replayed step launches nothing
      }
      model.device().fail_launch_after(-1);
      for (int step = 0; step < 4; ++step) CHECK(model.step(3 + step % 2) == want[step % 2]);
    }
  }
}
