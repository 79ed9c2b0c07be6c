// Layers that are stored as codes with scales of their own. The golden layers are from test/golden/quantised.
#include <doctest/doctest.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "common/error.h"
#include "common/float16.h"
#include "common/matrix.h"
#include "model/quantised_layer.h"
#include "model/weights.h"
#include "ops/sharded/sharded_plan.h"
#include "test/golden_layers.h"
#include "test/random_model.h"

using namespace apar;
using namespace apar::test;

namespace {

// A file with the parts of a GPTQ layer "l" [16, 24] in groups of 8 columns, and the table that names them.
struct SmallLayer {
  static constexpr int64_t kRows = 16, kCols = 24, kGroups = 3;
  TempDir dir;
  WeightTable table;
  std::vector<uint32_t> codes = std::vector<uint32_t>(kRows * kCols / 8, 0x76543210);
  std::vector<float> scales = std::vector<float>(kGroups * kRows, 0.5f);
  std::vector<uint32_t> zeros = std::vector<uint32_t>(kGroups * kRows / 8, 0x11111111);
  std::vector<int32_t> groups = std::vector<int32_t>(kCols, 2);

  SmallLayer() {
    TensorInfo layer = {"l", 0, 0, DType::gptq_4, {kRows, kCols}};
    layer.quantised = {1, 8, "scales", "zeros", "groups", 1};
    uint64_t at = codes.size() * 4;
    const auto add = [&](const char* name, DType dtype, std::vector<int64_t> shape) {
      int64_t bytes = 4;
      for (const int64_t size : shape) bytes *= size;
      table.tensors.push_back({name, 0, at, dtype, std::move(shape)});
      at += static_cast<uint64_t>(bytes);
    };
    table.tensors.push_back(layer);
    add("scales", DType::f32, {kGroups, kRows});
    add("zeros", DType::i32, {kGroups, kRows / 8});
    add("groups", DType::i32, {kCols});
  }

  StoredMatrix stored() {
    const std::string path = (dir.path() / "w.bin").string();
    table.files = {path};
    std::ofstream file(path, std::ios::binary);
    const auto write = [&](const auto& values) {
      file.write(reinterpret_cast<const char*>(values.data()),
                 static_cast<std::streamsize>(values.size() * 4));
    };
    write(codes);
    write(scales);
    write(zeros);
    write(groups);
    file.close();
    return Weights(table).stored("l", kRows, kCols);
  }
};

void check_refused(const char* part, const std::function<void(SmallLayer&)>& change) {
  CAPTURE(part);
  SmallLayer layer;
  change(layer);
  try {
    layer.stored();
    FAIL_CHECK("accepted");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::invalid_weights);
    CHECK_MESSAGE(std::string(error.what()).find(part) != std::string::npos, error.what());
  }
}

}  // namespace

TEST_CASE("every format gives the golden weights, to the last bit") {
  const std::vector<GoldenLayer> all = read_golden_layers(APAR_GOLDEN_LAYERS);
  for (const GoldenLayer& golden : all) {
    CAPTURE(golden.kind);
    const QuantisedLayer& layer = golden.layer;
    const std::vector<float>& expected = golden.weights;
    REQUIRE(static_cast<int64_t>(golden.codes.size()) == stored_bytes(layer.dtype, layer.rows * layer.cols));
    std::vector<float> found(static_cast<size_t>(layer.rows * layer.cols));
    std::vector<uint16_t> rounded(found.size());
    dequantise(layer, DType::f32, reinterpret_cast<std::byte*>(found.data()));
    dequantise(layer, DType::bf16, reinterpret_cast<std::byte*>(rounded.data()));
    REQUIRE(expected.size() == found.size());
    for (size_t i = 0; i < found.size(); ++i) {
      REQUIRE(found[i] == expected[i]);
      REQUIRE(rounded[i] == f32_to_bf16(expected[i]));
    }
  }
  CHECK(all.size() == 7);
}

TEST_CASE("layers that are no whole number of tiles") {
  std::mt19937 rng(4);
  constexpr int64_t kRows = 136, kCols = 200, kGroups = 5;
  for (const DType dtype : {DType::awq_4, DType::gptq_4, DType::gptq_8}) {
    const int64_t per_word = block_size(dtype).elements, bits = 32 / per_word;
    std::vector<uint32_t> words(kRows * kCols / per_word);
    for (uint32_t& word : words) word = rng();
    QuantisedLayer layer = {dtype, kRows, kCols, reinterpret_cast<const std::byte*>(words.data()), 1, 40,
                            {},    {},    {}};
    for (int64_t i = 0; i < kGroups * kRows; ++i) {
      layer.scales.push_back(static_cast<float>(rng() % 100) * 0.25f);
      layer.zeros.push_back(static_cast<float>(rng() % 16));
    }
    for (int64_t i = 0; i < kCols; ++i) layer.groups.push_back(static_cast<int32_t>(rng() % kGroups));
    std::vector<float> found(kRows * kCols);
    dequantise(layer, DType::f32, reinterpret_cast<std::byte*>(found.data()));
    for (int64_t row = 0; row < kRows; ++row)
      for (int64_t col = 0; col < kCols; ++col) {
        constexpr int32_t kAwqNibbles[] = {0, 4, 1, 5, 2, 6, 3, 7};  // of each of a word's rows
        const bool awq = dtype == DType::awq_4;
        const int64_t word = awq ? col * (kRows / 8) + row / 8 : col / per_word * kRows + row;
        const int64_t shift = awq ? kAwqNibbles[row % 8] * 4 : col % per_word * bits;
        const auto code = static_cast<float>(words[static_cast<size_t>(word)] >> shift & ((1u << bits) - 1));
        const auto at = static_cast<size_t>(layer.groups[static_cast<size_t>(col)] * kRows + row);
        REQUIRE(found[static_cast<size_t>(row * kCols + col)] == layer.scales[at] * (code - layer.zeros[at]));
      }
  }
}

TEST_CASE("a layer finds its parts by name") {
  SmallLayer layer;
  const StoredMatrix stored = layer.stored();
  CHECK(stored.matrix.dtype == DType::f32);
  CHECK(stored.matrix.data == stored.copy.get());
  const auto* const weights = static_cast<const float*>(stored.matrix.data);
  for (int64_t i = 0; i < SmallLayer::kRows * SmallLayer::kCols; ++i)
    REQUIRE(weights[i] == 0.5f * (static_cast<float>(i % SmallLayer::kCols % 8) - 2));
}

TEST_CASE("FP8 layers with one scale per row or tensor keep it beside the weights") {
  const TempDir dir;
  const std::string path = (dir.path() / "w.bin").string();
  constexpr int64_t kRows = 3, kCols = 4;
  const uint8_t codes[kRows * kCols] = {0x38, 0xb8, 0x7e, 0x00, 0x40, 0x01,
                                        0x39, 0xfe, 0x30, 0x08, 0x80, 0x3c};
  const float scales[] = {0.5f, -2.0f, 3.0f};
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(codes), sizeof codes);
  file.write(reinterpret_cast<const char*>(scales), sizeof scales);
  file.close();
  for (const auto& [block_rows, block_cols, count] : {std::tuple{int64_t{1}, kCols, int64_t{3}},
                                                      {kRows, kCols, int64_t{1}},
                                                      {kRows, int64_t{2}, int64_t{2}}}) {
    CAPTURE(count);
    TensorInfo layer = {"l", 0, 0, DType::f8_e4m3, {kRows, kCols}};
    layer.quantised = {block_rows, block_cols, "s", "", "", 0};
    const Weights weights({{path}, {layer, {"s", 0, sizeof codes, DType::f32, {count}}}});
    const StoredMatrix stored = weights.stored("l", kRows, kCols);
    const float second = count == 2 ? -2.0f : 0.5f;
    const auto* const values = static_cast<const float*>(stored.matrix.data);
    CHECK(values[0] == 0.5f);   // 1
    CHECK(values[1] == -0.5f);  // -1
    CHECK(values[2] == 448 * second);
    CHECK(values[5] == 0x1p-9f * (count == 3 ? -2.0f : 0.5f));
    CHECK(values[11] == 1.5f * (count == 3 ? 3.0f : second));
    CHECK((stored.matrix.row_scales != nullptr) == (block_cols == kCols));
    if (stored.matrix.row_scales == nullptr) continue;
    for (int64_t row = 0; row < kRows; ++row)
      CHECK(row_slice(stored.matrix, row, 1).row_scales[0] == scales[count == 3 ? row : 0]);
    CHECK(shard_of(stored.matrix, {2, 3}, {1, 3}).matrix.row_scales[0] == scales[count == 3 ? 2 : 0]);
  }
}

TEST_CASE("parts that are missing or hostile are refused and the error names them") {
  const auto part = [](SmallLayer& layer, size_t index) -> TensorInfo& { return layer.table.tensors[index]; };
  for (size_t index = 1; index < 4; ++index) {
    const std::string name = SmallLayer().table.tensors[index].name;
    check_refused(name.c_str(), [&](SmallLayer& l) { part(l, index).name = "other"; });
    check_refused(name.c_str(), [&](SmallLayer& l) { part(l, index).shape[0] += 1; });
    check_refused(name.c_str(), [&](SmallLayer& l) { part(l, index).shape = {}; });
    check_refused(name.c_str(), [&](SmallLayer& l) { part(l, index).shape = {-1, -3}; });
    check_refused(name.c_str(), [&](SmallLayer& l) {
      part(l, index).shape = {int64_t{1} << 40, int64_t{1} << 40};
    });
    check_refused(name.c_str(), [&](SmallLayer& l) { part(l, index).offset = uint64_t{1} << 40; });
    check_refused(name.c_str(), [&](SmallLayer& l) { part(l, index).dtype = DType::gptq_4; });
  }
  check_refused("groups: names group 3 of 3", [](SmallLayer& l) { l.groups[5] = 3; });
  check_refused("groups: names group -1 of 3", [](SmallLayer& l) { l.groups[0] = -1; });
  check_refused("scales: a scale is not finite",
                [](SmallLayer& l) { l.scales[7] = std::numeric_limits<float>::quiet_NaN(); });
  check_refused("scales: a scale is not finite",
                [](SmallLayer& l) { l.scales[47] = -std::numeric_limits<float>::infinity(); });
  check_refused("l: ", [&](SmallLayer& l) { part(l, 0).quantised.reset(); });
  check_refused("l: ", [&](SmallLayer& l) { part(l, 0).dtype = DType::i32; });
  check_refused("l: ", [&](SmallLayer& l) {
    part(l, 0).dtype = DType::bf16;
    l.codes.resize(400);
  });
  check_refused("l: ", [&](SmallLayer& l) { part(l, 0).quantised->block_inputs = 0; });
  check_refused("l: ", [&](SmallLayer& l) { part(l, 0).quantised->block_outputs = -1; });
  check_refused("scales: has 48", [&](SmallLayer& l) { part(l, 0).quantised->block_inputs = 1; });
}

TEST_CASE("no change of the table or of the data does anything but be refused or give a matrix") {
  std::mt19937 rng(9);
  int32_t refused = 0;
  constexpr int32_t kRuns = 3000;
  for (int32_t run = 0; run < kRuns; ++run) {
    SmallLayer layer;
    TensorInfo& tensor = layer.table.tensors[rng() % 4];
    QuantisedInfo& info = *layer.table.tensors[0].quantised;
    const auto any = [&]() -> int64_t {
      const int64_t numbers[] = {0, 1, 2, 3, 8, 16, 24, 48, -1, int64_t{1} << 31, int64_t{1} << 62};
      return numbers[rng() % std::size(numbers)];
    };
    switch (rng() % 8) {
      case 0:
        tensor.offset = static_cast<uint64_t>(any());
        break;
      case 1:
        tensor.shape[rng() % tensor.shape.size()] = any();
        break;
      case 2:
        tensor.dtype = static_cast<DType>(rng() % (static_cast<uint32_t>(DType::i32) + 1));
        break;
      case 3:
        info.block_inputs = any();
        break;
      case 4:
        info.block_outputs = any();
        break;
      case 5:
        info.zero_offset = static_cast<int32_t>(any());
        break;
      case 6:
        (rng() % 2 ? info.zeros : info.scales) = rng() % 2 ? "l" : "groups";
        break;
      default:
        layer.groups[rng() % layer.groups.size()] = static_cast<int32_t>(rng());
    }
    try {
      const StoredMatrix stored = layer.stored();
      CHECK(stored.matrix.rows == SmallLayer::kRows);
      CHECK(stored.matrix.cols == SmallLayer::kCols);
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::invalid_weights);
      ++refused;
    }
  }
  CHECK(refused > kRuns / 4);
}

TEST_CASE("only linear layers may be codes") {
  SmallLayer layer;
  layer.stored();
  Weights weights(layer.table);
  CHECK_THROWS_AS(weights.matrix("l", SmallLayer::kRows, SmallLayer::kCols, DType::bf16), Error);
  CHECK_THROWS_AS(weights.vector("groups", SmallLayer::kCols), Error);
}
