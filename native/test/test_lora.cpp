#include <doctest/doctest.h>

#include <cstring>
#include <fstream>
#include <random>
#include <vector>

#include "common/convert.h"
#include "common/error.h"
#include "common/float16.h"
#include "model/lora.h"
#include "model/weights.h"
#include "test/random_model.h"

using namespace apar;
using namespace apar::test;

namespace {

std::vector<float> random_values(int64_t count, std::mt19937& rng) {
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = uniform(rng);
  return values;
}

float at(const std::vector<float>& values, int64_t row, int64_t col, int64_t cols) {
  return values[static_cast<size_t>(row * cols + col)];
}

// W [rows, cols] with LoRA of this rank, computed in double.
double expected(const std::vector<float>& base, const std::vector<float>& a, const std::vector<float>& b,
                int64_t row, int64_t col, int64_t rows, int64_t cols, int64_t rank, bool transposed) {
  double sum = 0;
  for (int64_t k = 0; k < rank; ++k)
    sum += transposed ? double{at(b, col, k, rank)} * at(a, k, row, rows)
                      : double{at(b, row, k, rank)} * at(a, k, col, cols);
  return at(base, row, col, cols) + 0.5 * sum;
}

// A table of one file with these tensors, in f32.
struct Tensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<float> values;
};
WeightTable table_of(const TempDir& dir, const std::vector<Tensor>& tensors) {
  WeightTable table = {{(dir.path() / "w.bin").string()}, {}};
  std::ofstream out(table.files[0], std::ios::binary);
  uint64_t offset = 0;
  for (const auto& [name, shape, values] : tensors) {
    table.tensors.push_back({name, 0, offset, DType::f32, shape});
    out.write(reinterpret_cast<const char*>(values.data()),
              static_cast<std::streamsize>(values.size() * sizeof(float)));
    offset += values.size() * sizeof(float);
  }
  return table;
}

}  // namespace

TEST_CASE("LoRA is added in f32, with any width, rank and number of rows") {
  std::mt19937 rng(1);
  for (const auto& [rows, cols, rank] :
       {std::tuple{1, 1, 1}, {7, 31, 3}, {8, 32, 4}, {300, 100, 1}, {129, 65, 16}}) {
    const auto base = random_values(rows * cols, rng);
    for (const bool transposed : {false, true}) {
      const int64_t a_cols = transposed ? rows : cols, b_rows = transposed ? cols : rows;
      const auto a = random_values(rank * a_cols, rng), b = random_values(b_rows * rank, rng);
      const MatrixUpdate update = {.a = {a.data(), DType::f32, rank, a_cols},
                                   .b = {b.data(), DType::f32, b_rows, rank},
                                   .scale = 0.5f,
                                   .transposed = transposed,
                                   .new_rows = {},
                                   .rows_replaced = {}};
      std::vector<float> merged(base.size());
      merge_update({base.data(), DType::f32, rows, cols}, update, reinterpret_cast<std::byte*>(merged.data()),
                   DType::f32, rows);
      std::vector<uint16_t> rounded(base.size());
      merge_update({base.data(), DType::f32, rows, cols}, update,
                   reinterpret_cast<std::byte*>(rounded.data()), DType::bf16, rows);
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t col = 0; col < cols; ++col) {
          const auto i = static_cast<size_t>(row * cols + col);
          CHECK(merged[i] ==
                doctest::Approx(expected(base, a, b, row, col, rows, cols, rank, transposed)).epsilon(1e-5));
          CHECK(rounded[i] == f32_to_bf16(merged[i]));
        }
    }
  }
}

TEST_CASE("a quantised base, and rows that an adapter replaces and adds") {
  constexpr int64_t kRows = 5, kCols = 32;
  std::vector<std::byte> blocks(static_cast<size_t>(stored_bytes(DType::q8_0, kRows * kCols)));
  for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<std::byte>(i * 7 % 50);
  std::vector<float> plain;
  with_plain_elements({blocks.data(), DType::q8_0, kRows, kCols}, plain);
  std::mt19937 rng(2);
  const auto rows = random_values(3 * kCols, rng);
  const int32_t ids[] = {6, 2, 5};
  const MatrixUpdate update = {.a = {},
                               .b = {},
                               .scale = 0,
                               .transposed = false,
                               .new_rows = {rows.data(), DType::f32, 3, kCols},
                               .rows_replaced = ids};
  std::vector<float> merged(7 * kCols);
  merge_update({blocks.data(), DType::q8_0, kRows, kCols}, update,
               reinterpret_cast<std::byte*>(merged.data()), DType::f32, 7);
  const auto same = [&](int64_t row, const float* wanted) {
    return std::memcmp(merged.data() + row * kCols, wanted, kCols * sizeof(float)) == 0;
  };
  for (const int64_t row : {0, 1, 3, 4}) CHECK(same(row, plain.data() + row * kCols));
  for (size_t i = 0; i < 3; ++i) CHECK(same(ids[i], rows.data() + i * kCols));
}

TEST_CASE("the table of weights merges what an adapter changes, and refuses what does not fit") {
  const TempDir dir;
  std::mt19937 rng(3);
  const std::vector<Tensor> tensors = {{"w", {4, 6}, random_values(24, rng)},
                                       {"w.lora_A", {2, 6}, random_values(12, rng)},
                                       {"w.lora_B", {4, 2}, random_values(8, rng)},
                                       {"e", {3, 6}, random_values(18, rng)},
                                       {"e.rows", {2, 6}, random_values(12, rng)}};
  WeightTable table = table_of(dir, tensors);
  table.tensors[0].lora = {0.5f, false};
  table.tensors[3].replaced_rows = {3, 1};
  Weights weights(table);
  const StoredMatrix w = weights.stored("w", 4, 6);
  CHECK(w.copy);
  CHECK(w.matrix.dtype == DType::f32);
  for (int64_t i = 0; i < 24; ++i)
    CHECK(static_cast<const float*>(w.matrix.data)[i] ==
          doctest::Approx(expected(tensors[0].values, tensors[1].values, tensors[2].values, i / 6, i % 6, 4,
                                   6, 2, false)));
  CHECK(weights.stored("w", 4, 6, DType::bf16).matrix.dtype == DType::bf16);
  const Matrix e = weights.matrix("e", 4, 6, DType::f32);
  CHECK(static_cast<const float*>(e.data)[3 * 6] == tensors[4].values[0]);
  CHECK(static_cast<const float*>(e.data)[1 * 6] == tensors[4].values[6]);
  CHECK(static_cast<const float*>(e.data)[2 * 6] == tensors[3].values[12]);
  CHECK_THROWS_AS(weights.matrix("e", 3, 6, DType::f32), Error);

  const auto refused = [&](const char* name, int64_t rows, auto change) {
    CAPTURE(name);
    WeightTable changed = table;
    change(changed.tensors);
    Weights other(changed);
    CHECK_THROWS_AS(other.stored(name, rows, 6), Error);
  };
  using Tensors = std::vector<TensorInfo>;
  refused("w", 4, [](Tensors& t) { t[1].name = "other"; });
  refused("w", 4, [](Tensors& t) { t[2].name = "other"; });
  refused("w", 4, [](Tensors& t) { t[1].shape = {}; });
  refused("w", 4, [](Tensors& t) { t[1].shape = {3, 6}; });
  refused("w", 4, [](Tensors& t) { t[1].shape = {-2, -6}; });
  refused("w", 4, [](Tensors& t) { t[2].shape = {2, 4}; });
  refused("w", 4, [](Tensors& t) { t[1].offset = 1 << 20; });
  refused("w", 4, [](Tensors& t) { t[0].lora->transposed = true; });
  refused("w", 5, [](Tensors& t) { t[0].replaced_rows = {4}; });
  refused("e", 6, [](Tensors& t) { t[3].replaced_rows = {3, 5}; });
  refused("e", 4, [](Tensors& t) { t[3].replaced_rows = {3, 3}; });
  refused("e", 4, [](Tensors& t) { t[3].replaced_rows = {3, -1}; });
  refused("e", 4, [](Tensors& t) { t[4].shape = {1, 6}; });
}
