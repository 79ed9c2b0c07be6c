// Rotary embedding and the writes to the KV pool in every format. Pools hold NaN before.
#include <doctest/doctest.h>

#include "ops/cuda/elementwise/elementwise.h"
#include "test/cuda/either_order.h"
#include "test/cuda/fp8_pool.h"
#include "test/cuda/mismatches.h"
#include "test/cuda/open_device.h"
#include "test/cuda/step_words.h"

using namespace apar;
using namespace apar::cuda;
using namespace apar::test;

namespace {

constexpr int32_t kPadding = 3;    // padded rows beyond those of the step
constexpr int32_t kBlocks = 3;     // of the pool
constexpr int32_t kPositions = 7;  // of the table of angles
constexpr float kEps = 1e-2f;      // of the norms

// The inputs of rope_and_store.
struct Inputs {
  HeadShape shape;
  int32_t pairs;                          // rotated pairs of elements
  std::vector<int32_t> positions, slots;  // of the rows
  std::vector<float> rope, q, k, v;
  std::vector<float> q_norm, k_norm;  // empty: no norms

  Inputs(std::mt19937& random, HeadShape head_shape, int32_t rotated_pairs,
         const std::vector<int32_t>& row_positions, const std::vector<int32_t>& row_slots)
      : shape(head_shape), pairs(rotated_pairs), positions(row_positions), slots(row_slots) {
    const size_t rows = positions.size();
    rope = random_floats(random, static_cast<size_t>(kPositions) * 2 * pairs);
    q = random_floats(random, rows * shape.heads * shape.head_dim);
    k = random_floats(random, rows * shape.kv_heads * shape.head_dim);
    v = random_floats(random, k.size());
  }
  int32_t rows() const { return static_cast<int32_t>(positions.size()); }
  // Elements of the pool's keys, or of its values.
  size_t pool_elements() const {
    return static_cast<size_t>(kBlocks) * kBlockTokens * shape.kv_heads * shape.head_dim;
  }
};

// Runs the kernel; returns q and k after the rotation.
std::pair<std::vector<float>, std::vector<float>> rotate_and_store(Device& device, const Inputs& inputs,
                                                                   const KvLayer& kv) {
  const DeviceArray<int32_t> step(device, step_words(inputs.positions, inputs.positions, inputs.slots, {}));
  const DeviceArray<float> rope(device, inputs.rope), q(device, inputs.q), k(device, inputs.k),
      v(device, inputs.v), q_norm(device, inputs.q_norm), k_norm(device, inputs.k_norm);
  const HeadNorms norms = inputs.q_norm.empty() ? HeadNorms{} : HeadNorms{q_norm.data(), k_norm.data(), kEps};
  rope_and_store(device.stream(), header(step), inputs.rows() + kPadding, inputs.shape, norms,
                 {rope.data(), inputs.pairs}, q.data(), k.data(), v.data(), kv);
  return {q.get(), k.get()};
}

// A head of q or k after the norm and the rotation, in double precision.
std::vector<double> transformed(const Inputs& inputs, const std::vector<float>& from,
                                const std::vector<float>& norm, int32_t heads, int32_t row, int32_t head) {
  const int32_t head_dim = inputs.shape.head_dim, pairs = inputs.pairs;
  const auto first = from.begin() + (int64_t{row} * heads + head) * head_dim;
  std::vector<double> x(first, first + head_dim);
  if (!norm.empty()) {
    double squares = 0;
    for (const double each : x) squares += each * each;
    for (int32_t i = 0; i < head_dim; ++i) x[i] *= norm[i] / std::sqrt(squares / head_dim + kEps);
  }
  std::vector<double> y = x;
  const float* const angles = inputs.rope.data() + size_t{2} * pairs * inputs.positions[row];
  for (int32_t i = 0; i < pairs; ++i) {
    y[i] = x[i] * angles[2 * i] - x[i + pairs] * angles[2 * i + 1];
    y[i + pairs] = x[i + pairs] * angles[2 * i] + x[i] * angles[2 * i + 1];
  }
  return y;
}

struct HeadCase {
  HeadShape shape;
  int32_t pairs;
  bool norms;
};

}  // namespace

TEST_CASE("head norms, rotation and the writes to the pool; every other slot stays unchanged") {
  std::mt19937 random(6);
  const auto device = open_test_device();
  for (const auto& [shape, pairs, norms] : {HeadCase{{4, 2, 6}, 3, false},
                                            {{2, 2, 64}, 32, false},
                                            {{4, 2, 6}, 1, true},
                                            {{2, 1, 64}, 0, false},
                                            {{2, 1, 64}, 0, true},
                                            {{2, 2, 80}, 13, false},
                                            {{3, 1, 128}, 64, true},
                                            {{1, 1, 520}, 250, true}}) {
    CAPTURE(shape.head_dim);
    CAPTURE(pairs);
    Inputs inputs(random, shape, pairs, {0, 5, 6}, {17, 3, 40});
    if (norms) {
      inputs.q_norm = random_floats(random, shape.head_dim);
      inputs.k_norm = random_floats(random, shape.head_dim);
    }
    const std::vector<int32_t>& slots = inputs.slots;
    const int32_t rows = inputs.rows();
    const size_t pool = inputs.pool_elements();
    const DeviceArray<float> keys(*device, pool), values(*device, pool);
    const DeviceArray<uint16_t> keys_bf16(*device, pool), values_bf16(*device, pool);
    const auto [got_q, got_k] =
        rotate_and_store(*device, inputs, {keys.data(), values.data(), KvFormat::f32});
    rotate_and_store(*device, inputs, {keys_bf16.data(), values_bf16.data(), KvFormat::bf16});
    const auto compare = [&](Mismatches& wrong, int32_t row, int32_t column, float got, double want) {
      wrong.compare(row, column, got, want, 1e-5 * (1 + std::abs(want)));
    };
    Mismatches wrong_q("rotated q", 1, shape.head_dim), wrong_k("rotated k", 1, shape.head_dim);
    std::vector<float> want_keys(pool, NAN), want_values(pool, NAN);
    for (int32_t row = 0; row < rows; ++row) {
      for (int32_t head = 0; head < shape.heads; ++head) {
        const auto want = transformed(inputs, inputs.q, inputs.q_norm, shape.heads, row, head);
        for (int32_t i = 0; i < shape.head_dim; ++i)
          compare(wrong_q, row, head * shape.head_dim + i,
                  got_q[(row * shape.heads + head) * shape.head_dim + i], want[i]);
      }
      for (int32_t head = 0; head < shape.kv_heads; ++head) {
        const auto want = transformed(inputs, inputs.k, inputs.k_norm, shape.kv_heads, row, head);
        for (int32_t i = 0; i < shape.head_dim; ++i) {
          const size_t from = (row * shape.kv_heads + head) * shape.head_dim + i;
          const size_t block = static_cast<size_t>(slots[row] / kBlockTokens) * shape.kv_heads + head;
          const size_t to = (block * kBlockTokens + slots[row] % kBlockTokens) * shape.head_dim + i;
          compare(wrong_k, row, head * shape.head_dim + i, got_k[from], want[i]);
          want_keys[to] = got_k[from];
          want_values[to] = inputs.v[from];
        }
      }
    }
    CHECK(wrong_q.check());
    CHECK(wrong_k.check());
    // In the mismatches, rows are slots of a KV head and columns are its dimensions.
    const auto check_pool = [&](const char* what, auto got, const std::vector<float>& want, auto rounded) {
      Mismatches wrong(what);
      for (size_t i = 0; i < pool; ++i) {
        const float is = rounded(got[i]), expected = rounded(want[i]);
        const auto row = static_cast<int32_t>(i / shape.head_dim),
                   column = static_cast<int32_t>(i % shape.head_dim);
        if (!std::isnan(is) || !std::isnan(expected)) wrong.same(row, column, is, expected);
      }
      CHECK(wrong.check());
    };
    const auto as_is = [](float value) { return value; };
    check_pool("keys, f32", keys.get(), want_keys, as_is);
    check_pool("values, f32", values.get(), want_values, as_is);
    const auto widened = [](const std::vector<uint16_t>& bits) {
      std::vector<float> values;
      for (const uint16_t each : bits) values.push_back(bf16_to_f32(each));
      return values;
    };
    const auto to_bf16 = [](float value) { return bf16_to_f32(f32_to_bf16(value)); };
    check_pool("keys, bf16", widened(keys_bf16.get()), want_keys, to_bf16);
    check_pool("values, bf16", widened(values_bf16.get()), want_values, to_bf16);
  }
}

TEST_CASE("an fp8 pool has the same bits as on the host: e4m3, and a power of two per token and head") {
  std::mt19937 random(7);
  const auto device = open_test_device();
  // One magnitude per row. The last two rows get values that are not finite, the row before them is clamped.
  const std::vector<float> magnitudes = {1, 300, 1e-6f, 1e-33f, 1e6f, 1, 1};
  for (const HeadShape shape : {HeadShape{4, 2, 6}, HeadShape{2, 2, 64}, HeadShape{3, 1, 80},
                                HeadShape{1, 1, 128}, HeadShape{1, 1, 520}}) {
    CAPTURE(shape.head_dim);
    Inputs inputs(random, shape, (shape.head_dim + 2) / 4, {0, 5, 6, 1, 2, 3, 4}, {17, 3, 40, 0, 16, 47, 30});
    std::vector<float>&k = inputs.k, &v = inputs.v;
    const size_t kv_width = static_cast<size_t>(shape.kv_heads) * shape.head_dim;
    for (size_t i = 0; i < k.size(); ++i) {
      k[i] *= magnitudes[i / kv_width];
      // Also values that become subnormal in e4m3 because of the scale, and zeros.
      v[i] *= magnitudes[i / kv_width] * (i % 3 == 0 ? 1 : i % 3 == 1 ? 0x1p-14f : 0);
    }
    std::fill_n(v.begin() + static_cast<ptrdiff_t>(3 * kv_width), kv_width, 0.0f);
    v[5 * kv_width + 1] = NAN;
    k[6 * kv_width + 2] = INFINITY;
    const size_t tokens = inputs.pool_elements() / shape.head_dim;
    DeviceArray<uint8_t> keys(*device, inputs.pool_elements()), values(*device, inputs.pool_elements());
    DeviceArray<KvScale> scales(*device, tokens);
    std::vector<float> rotated;
    const Fp8Pool got = in_either_order([&] {
      keys.poison(), values.poison(), scales.poison();
      const KvLayer kv = {keys.data(), values.data(), KvFormat::fp8, scales.data()};
      rotated = rotate_and_store(*device, inputs, kv).second;
      Fp8Pool written(0, 0);
      written.keys = keys.get(), written.values = values.get(), written.scales = scales.get();
      return written;
    });
    Fp8Pool want(tokens, shape.head_dim);
    for (int32_t i = 0; i < inputs.rows() * shape.kv_heads; ++i) {
      const int32_t slot = inputs.slots[i / shape.kv_heads], head = i % shape.kv_heads;
      const size_t block = static_cast<size_t>(slot / kBlockTokens) * shape.kv_heads + head;
      const size_t from = static_cast<size_t>(i) * shape.head_dim;
      want.put(block * kBlockTokens + slot % kBlockTokens, std::span(rotated).subspan(from, shape.head_dim),
               std::span(v).subspan(from, shape.head_dim));
    }
    CHECK(got.keys == want.keys);
    CHECK(got.values == want.values);
    CHECK(got.scales == want.scales);
  }
}
