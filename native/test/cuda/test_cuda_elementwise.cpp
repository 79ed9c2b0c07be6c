// Embedding, norm, SwiGLU, gathering, rotary embedding with the pool's writes: against double precision,
// poisoned outputs.
#include <doctest/doctest.h>

#include "ops/cuda/kernels.h"
#include "ops/cuda/step_buffer.h"
#include "test/cuda/device_array.h"
#include "test/cuda/either_order.h"
#include "test/cuda/open_device.h"

using namespace apar;
using namespace apar::cuda;
using namespace apar::test;

namespace {

constexpr int32_t kPadding = 3;  // rows beyond the step's

// A step's header with these rows and nothing to attend to.
std::vector<int32_t> step_words(std::span<const int32_t> tokens, std::span<const int32_t> positions,
                                std::span<const int32_t> slots, std::span<const int32_t> logit_rows) {
  AttentionWork work;
  work.build({}, 1, 0);
  std::vector<int32_t> words;
  write_step({tokens, positions, slots, {}, {}, {}, logit_rows}, work, words);
  return words;
}

const StepHeader* header(const DeviceArray<int32_t>& step) {
  return reinterpret_cast<const StepHeader*>(step.data());
}

}  // namespace

TEST_CASE("embedding and gathered rows; rows beyond the step's stay as they were") {
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
      for (int32_t i = 0; i < 4 * width; ++i) {
        const float want = table[tokens[i / width] * width + i % width];
        REQUIRE(got[i] == (dtype == DType::f32 ? want : bf16_to_f32(f32_to_bf16(want))));
      }
      for (size_t i = 4 * width; i < got.size(); ++i) REQUIRE(std::isnan(got[i]));

      const DeviceArray<float> rows(*device, static_cast<size_t>(2 + kPadding) * width);
      const DeviceArray<uint16_t> rows_bf16(*device, static_cast<size_t>(2 + kPadding) * width);
      gather_logit_rows(device->stream(), header(step), 2 + kPadding, width, x.data(), rows.data(),
                        rows_bf16.data());
      const std::vector<float> gathered = rows.get();
      for (int32_t i = 0; i < 2 * width; ++i)
        REQUIRE(gathered[i] == got[logit_rows[i / width] * width + i % width]);
      for (size_t i = 2 * width; i < gathered.size(); ++i) REQUIRE(std::isnan(gathered[i]));
    }
  }
}

TEST_CASE("residual and norm") {
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
      for (int32_t row = 0; row < rows; ++row) {
        double squares = 0;
        for (int32_t i = row * width; i < (row + 1) * width; ++i) {
          REQUIRE(after[i] == (adds ? x[i] + residual[i] : x[i]));
          squares += double{after[i]} * after[i];
        }
        for (int32_t i = 0; i < width; ++i) {
          const double want = after[row * width + i] / std::sqrt(squares / width + 1e-5) * weight[i];
          REQUIRE(got[row * width + i] == doctest::Approx(want).epsilon(3e-6));
        }
      }
    }
  }
}

TEST_CASE("swiglu, extremes included") {
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
    for (int32_t i = 0; i < count; ++i) {
      const double want = gate[i] / (1 + std::exp(-double{gate[i]})) * up[i];
      REQUIRE(std::abs(got[i] - want) <= 3e-6 * std::abs(want) + 1e-35);
    }
  }
}

TEST_CASE("rotary embedding and the pool's writes; every other slot stays as it was") {
  std::mt19937 random(6);
  const auto device = open_test_device();
  const std::vector<int32_t> positions = {0, 5, 6}, slots = {17, 3, 40};
  constexpr int32_t rows = 3, blocks = 3;
  for (const HeadShape shape : {HeadShape{4, 2, 6}, HeadShape{2, 2, 64}}) {
    const int32_t half = shape.head_dim / 2;
    const std::vector<float> rope = random_floats(random, static_cast<size_t>(7) * shape.head_dim);
    const std::vector<float> q =
        random_floats(random, static_cast<size_t>(rows) * shape.heads * shape.head_dim);
    const std::vector<float> k =
        random_floats(random, static_cast<size_t>(rows) * shape.kv_heads * shape.head_dim);
    const std::vector<float> v = random_floats(random, k.size());
    const DeviceArray<int32_t> step(*device, step_words(positions, positions, slots, {}));
    const DeviceArray<float> rope_device(*device, rope), q_device(*device, q), k_device(*device, k),
        v_device(*device, v);
    const size_t pool = static_cast<size_t>(blocks) * shape.kv_heads * kBlockTokens * shape.head_dim;
    const DeviceArray<float> keys(*device, pool), values(*device, pool);
    const DeviceArray<uint16_t> keys_bf16(*device, pool), values_bf16(*device, pool);
    const KvLayer f32 = {keys.data(), values.data(), KvFormat::f32};
    const KvLayer bf16 = {keys_bf16.data(), values_bf16.data(), KvFormat::bf16};
    const auto store = [&](const KvLayer& kv) {
      DeviceArray<float> q_now(*device, q), k_now(*device, k);
      rope_and_store(device->stream(), header(step), rows + kPadding, shape, rope_device.data(), q_now.data(),
                     k_now.data(), v_device.data(), kv);
      return std::pair(q_now.get(), k_now.get());
    };
    const auto [got_q, got_k] = store(f32);
    store(bf16);
    const auto rotated = [&](const std::vector<float>& from, int32_t heads, int32_t row, int32_t head,
                             int32_t i) {
      const float* const x = &from[(static_cast<size_t>(row) * heads + head) * shape.head_dim];
      const float* const angle = &rope[positions[row] * shape.head_dim + i % half * 2];
      return i < half ? double{x[i]} * angle[0] - double{x[i + half]} * angle[1]
                      : double{x[i]} * angle[0] + double{x[i - half]} * angle[1];
    };
    std::vector<float> want_keys(pool, NAN), want_values(pool, NAN);
    for (int32_t row = 0; row < rows; ++row) {
      for (int32_t head = 0; head < shape.heads; ++head)
        for (int32_t i = 0; i < shape.head_dim; ++i)
          REQUIRE(got_q[(row * shape.heads + head) * shape.head_dim + i] ==
                  doctest::Approx(rotated(q, shape.heads, row, head, i)).epsilon(1e-5).scale(1));
      for (int32_t head = 0; head < shape.kv_heads; ++head) {
        for (int32_t i = 0; i < shape.head_dim; ++i) {
          const size_t from = (row * shape.kv_heads + head) * shape.head_dim + i;
          const size_t block = static_cast<size_t>(slots[row] / kBlockTokens) * shape.kv_heads + head;
          const size_t to = (block * kBlockTokens + slots[row] % kBlockTokens) * shape.head_dim + i;
          REQUIRE(got_k[from] ==
                  doctest::Approx(rotated(k, shape.kv_heads, row, head, i)).epsilon(1e-5).scale(1));
          want_keys[to] = got_k[from];
          want_values[to] = v[from];
        }
      }
    }
    const auto same = [](float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); };
    const std::vector<float> got_keys = keys.get(), got_values = values.get();
    const std::vector<uint16_t> got_keys_bf16 = keys_bf16.get(), got_values_bf16 = values_bf16.get();
    for (size_t i = 0; i < pool; ++i) {
      REQUIRE(same(got_keys[i], want_keys[i]));
      REQUIRE(same(got_values[i], want_values[i]));
      REQUIRE(same(bf16_to_f32(got_keys_bf16[i]), bf16_to_f32(f32_to_bf16(want_keys[i]))));
      REQUIRE(same(bf16_to_f32(got_values_bf16[i]), bf16_to_f32(f32_to_bf16(want_values[i]))));
    }
  }
}
