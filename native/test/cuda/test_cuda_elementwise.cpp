// Embedding, norm, SwiGLU and gathered rows against double precision. Outputs hold NaN before.
#include <doctest/doctest.h>

#include "ops/cuda/elementwise/elementwise.h"
#include "test/cuda/device_array.h"
#include "test/cuda/either_order.h"
#include "test/cuda/mismatches.h"
#include "test/cuda/open_device.h"
#include "test/cuda/step_words.h"

using namespace apar;
using namespace apar::cuda;
using namespace apar::test;

namespace {

constexpr int32_t kPadding = 3;  // padded rows beyond those of the step

}  // namespace

TEST_CASE("embedding and gathered rows; padded rows stay unchanged") {
  std::mt19937 random(3);
  const auto device = open_test_device();
  const std::vector<int32_t> tokens = {4, 0, 4, 2}, logit_rows = {1, 3};
  for (const int32_t width : {1, 37, 300}) {
    const std::vector<float> table = random_floats(random, static_cast<size_t>(5) * width);
    const DeviceArray<int32_t> step(*device, step_words(tokens, tokens, tokens, logit_rows));
    const DeviceArray<float> table_f32(*device, table);
    const DeviceArray<uint16_t> table_bf16(*device, to_bf16(table));
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const DeviceArray<float> x(*device, static_cast<size_t>(4 + kPadding) * width);
      const void* const data =
          dtype == DType::f32 ? static_cast<const void*>(table_f32.data()) : table_bf16.data();
      embed(device->stream(), header(step), 4 + kPadding, data, dtype, width, x.data());
      const std::vector<float> got = x.get();
      Mismatches wrong("embedding, width " + std::to_string(width));
      for (int32_t i = 0; i < 4 * width; ++i) {
        const float want = table[tokens[i / width] * width + i % width];
        wrong.same(i / width, i % width, got[i], dtype == DType::f32 ? want : bf16_to_f32(f32_to_bf16(want)));
      }
      CHECK(wrong.check());
      for (size_t i = 4 * width; i < got.size(); ++i) REQUIRE(std::isnan(got[i]));

      const DeviceArray<float> rows(*device, static_cast<size_t>(2 + kPadding) * width);
      const DeviceArray<uint16_t> rows_bf16(*device, static_cast<size_t>(2 + kPadding) * width);
      gather_logit_rows(device->stream(), header(step), 2 + kPadding, width, x.data(), rows.data(),
                        rows_bf16.data());
      const std::vector<float> gathered = rows.get();
      Mismatches moved("gathered rows, width " + std::to_string(width));
      for (int32_t i = 0; i < 2 * width; ++i)
        moved.same(i / width, i % width, gathered[i], got[logit_rows[i / width] * width + i % width]);
      CHECK(moved.check());
      for (size_t i = 2 * width; i < gathered.size(); ++i) REQUIRE(std::isnan(gathered[i]));
    }
  }
}

TEST_CASE("residual addition and norm") {
  std::mt19937 random(4);
  const auto device = open_test_device();
  for (const int32_t width : {1, 31, 256, 700, 4096, 5120, 9000, 20000}) {
    constexpr int32_t rows = 3;
    const std::vector<float> x = random_floats(random, static_cast<size_t>(rows) * width, 3);
    const std::vector<float> residual = random_floats(random, x.size()),
                             weight = random_floats(random, width);
    for (const bool adds : {false, true}) {
      const DeviceArray<float> residual_device(*device, residual), weight_device(*device, weight);
      const DeviceArray<float> out(*device, x.size());
      const DeviceArray<uint16_t> out_bf16(*device, x.size());
      std::vector<float> after;
      const auto got = in_either_order([&] {
        const DeviceArray<float> x_device(*device, x);
        add_rms_norm(device->stream(), rows, width, 1e-5f, x_device.data(),
                     adds ? residual_device.data() : nullptr, weight_device.data(), out.data(),
                     out_bf16.data());
        after = x_device.get();
        return out.get();
      });
      if (adds) {
        const DeviceArray<float> x_device(*device, x), residual_and_out(*device, residual);
        add_rms_norm(device->stream(), rows, width, 1e-5f, x_device.data(), residual_and_out.data(),
                     weight_device.data(), residual_and_out.data(), out_bf16.data());
        CHECK(residual_and_out.get() == got);
      }
      CHECK(out_bf16.get() == to_bf16(got));
      Mismatches sums("residual, width " + std::to_string(width)),
          norms("norm, width " + std::to_string(width));
      for (int32_t row = 0; row < rows; ++row) {
        double squares = 0;
        for (int32_t i = 0; i < width; ++i) {
          const int32_t at = row * width + i;
          sums.same(row, i, after[at], adds ? x[at] + residual[at] : x[at]);
          squares += double{after[at]} * after[at];
        }
        for (int32_t i = 0; i < width; ++i) {
          const double want = after[row * width + i] / std::sqrt(squares / width + 1e-5) * weight[i];
          norms.compare(row, i, got[row * width + i], want, 3e-6 * (1 + std::abs(want)));
        }
      }
      CHECK(sums.check());
      CHECK(norms.check());
    }
  }
}

TEST_CASE("swiglu, also of large values") {
  std::mt19937 random(5);
  const auto device = open_test_device();
  for (const int32_t count : {1, 255, 1000}) {
    std::vector<float> gate = random_floats(random, count, 40);
    gate[0] = 120;
    const std::vector<float> up = random_floats(random, count);
    const DeviceArray<float> gate_device(*device, gate), up_device(*device, up);
    const DeviceArray<uint16_t> gate_bf16(*device, count);
    swiglu(device->stream(), count, gate_device.data(), up_device.data(), gate_bf16.data());
    const std::vector<float> got = gate_device.get();
    CHECK(gate_bf16.get() == to_bf16(got));
    Mismatches wrong("swiglu of " + std::to_string(count));
    for (int32_t i = 0; i < count; ++i) {
      const double want = gate[i] / (1 + std::exp(-double{gate[i]})) * up[i];
      wrong.compare(0, i, got[i], want, 3e-6 * std::abs(want) + 1e-35);
    }
    CHECK(wrong.check());
  }
}
