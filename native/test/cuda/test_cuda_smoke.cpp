// The first tests on a device: one product, one attention, one graph. The inputs have known results without a
// reference implementation, so that a failure is easy to read.
#include <doctest/doctest.h>

#include <algorithm>

#include "ops/cuda/attention/attention.h"
#include "ops/cuda/elementwise/elementwise.h"
#include "ops/cuda/gemm/gemm.h"
#include "ops/cuda/gemm/weight_tiles.h"
#include "test/cuda/device_array.h"
#include "test/cuda/mismatches.h"
#include "test/cuda/open_device.h"
#include "test/cuda/step_words.h"
#include "test/cuda/tree_batch.h"

using namespace apar;
using namespace apar::cuda;
using namespace apar::test;

TEST_CASE("one product of small integers, which are exact in bf16") {
  const auto device = open_test_device();
  MESSAGE(device->info().name, ", sm_", device->info().capability, ", ", device->info().multiprocessors,
          " multiprocessors, ", device->info().free_bytes >> 20, " MiB free");
  constexpr int32_t kRows = 8, kIn = 128, kOuts = 64;
  std::vector<float> w(kOuts * kIn), x(kRows * kIn), want(kRows * kOuts, 0.0f);
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(i % 7) - 3;
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 5) - 2;
  for (int32_t row = 0; row < kRows; ++row)
    for (int32_t out = 0; out < kOuts; ++out)
      for (int32_t k = 0; k < kIn; ++k) want[row * kOuts + out] += x[row * kIn + k] * w[out * kIn + k];
  std::vector<std::byte> packed(tiled_bytes(kOuts, kIn, WeightFormat::bf16));
  pack_tiles({w.data(), DType::f32, kOuts, kIn}, WeightFormat::bf16, 0, packed.data());
  const DeviceArray<std::byte> weights(*device, packed);
  const DeviceArray<uint16_t> rows(*device, to_bf16(x));
  const DeviceArray<float> out(*device, want.size());
  GemmCall call;
  call.projections[0] = {weights.data(), out.data(), kOuts, 0};
  call.num_projections = call.tiles = 1;
  call.rows = kRows;
  call.in = kIn;
  call.x_bf16 = rows.data();
  packed_gemm(device->stream(), call, WeightFormat::bf16, {GemmKernel::mma, 8, 1, false});
  Mismatches wrong("gemm_mma", 8, kTileOuts);
  wrong.same(out.get(), want, kOuts);
  CHECK(wrong.check());
}

// Equal keys give every token the same weight, so that the result of a row is the mean of the values.
TEST_CASE("one attention whose result is the mean of the values") {
  const auto device = open_test_device();
  constexpr HeadShape kShape = {2, 1, 64};
  const TreeBatch tree = fan_batch(64, 16, 3);
  AttentionWork work;
  work.build(tree.batch(), kShape.group(), {AttentionWork::max_partials(3, 80)});
  const DeviceArray<int32_t> step(*device, step_words(tree.batch(), work));
  const size_t pool = static_cast<size_t>(tree.num_blocks()) * kBlockTokens * kShape.head_dim;
  std::vector<float> values(pool);
  for (size_t i = 0; i < pool; ++i)
    values[i] = static_cast<float>(i / kShape.head_dim % 16);  // 0 to 15 in a block
  const DeviceArray<uint16_t> keys(*device, to_bf16(std::vector<float>(pool, 0.5f))),
      v(*device, to_bf16(values));
  const size_t width = kShape.heads * kShape.head_dim, rows = 3;
  const DeviceArray<float> q(*device, std::vector<float>(rows * width, 1.0f));
  const DeviceArray<float> sums(*device, work.num_partials() * width),
      scales(*device, size_t{2} * work.num_partials() * kShape.heads);
  const DeviceArray<float> out(*device, rows * width);
  const DeviceArray<uint16_t> out_bf16(*device, rows * width);
  const AttentionPartials partials = {sums.data(), scales.data()};
  attention_mma(device->stream(), header(step), kShape, q.data(), {keys.data(), v.data(), KvFormat::bf16},
                partials, attention_mma_grid(kShape, KvFormat::bf16));
  attention_merge(device->stream(), header(step), 3, kShape, partials, out.data(), out_bf16.data());
  Mismatches wrong("attention_mma", 1, kShape.head_dim);
  const std::vector<float> got = out.get();
  for (size_t i = 0; i < got.size(); ++i)
    wrong.compare(static_cast<int32_t>(i / width), static_cast<int32_t>(i % width), got[i], 7.5, 1e-3);
  CHECK(wrong.check());
}

TEST_CASE("one graph: captured once and replayed with other data") {
  const auto device = open_test_device();
  constexpr int32_t kCount = 1000;
  DeviceArray<float> gate(*device, std::vector<float>(kCount, 0.0f));
  const DeviceArray<float> up(*device, std::vector<float>(kCount, 3.0f));
  const DeviceArray<uint16_t> gate_bf16(*device, kCount);
  device->begin_capture();
  swiglu(device->stream(), kCount, gate.data(), up.data(), gate_bf16.data());
  const std::unique_ptr<Graph> graph = device->end_capture();
  for (const float value : {100.0f, -100.0f, 50.0f}) {  // silu is the value itself, or zero
    gate.set(std::vector<float>(kCount, value));
    graph->launch();
    Mismatches wrong("swiglu from a graph");
    const std::vector<float> got = gate.get();
    for (int32_t i = 0; i < kCount; ++i) wrong.compare(0, i, got[i], value > 0 ? 3 * value : 0, 1e-4);
    CHECK(wrong.check());
  }
}
