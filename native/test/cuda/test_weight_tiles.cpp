// Codes of 4 bits in groups of 128 inputs: what packing keeps of the weights, and of AWQ's and GPTQ's own
// numbers. test_cuda_gemm.cpp multiplies with them. The golden layers are from test/golden/quantised.
#include <filesystem>
#include <fstream>

#include "model/weights.h"
#include "ops/sharded/sharded_plan.h"
#include "test/coded_model.h"
#include "test/cuda/packed_products.h"
#include "test/golden_layers.h"

using namespace apar;
using namespace apar::cuda;
using namespace apar::test;

namespace {

constexpr WeightFormat kFormat = WeightFormat::int4_g128;

Matrix matrix_of(const CodedLayer& layer) {
  return {layer.weights.data(), DType::f32, layer.rows,
          layer.cols,           nullptr,    {layer.scales.data(), layer.zeros.data(), layer.rows}};
}

// A packed layer, read from the description of the layout (weight_tiles.h) output by output.
class Unpacked {
 public:
  Unpacked(const std::vector<std::byte>& packed, int64_t cols) : packed_(packed), cols_(cols) {}

  int32_t code(int64_t out, int64_t in) const {
    const int64_t row = out % 16, column = in % 16;
    const int64_t lane = row % 8 * 4 + column % 8 / 2, nibble = row / 8 + column / 8 * 2 + column % 2 * 4;
    const int64_t at = in / 64 * 2048 + out % 64 / 16 * 512 + lane * 16 + in % 64 / 16 * 4 + nibble / 2;
    return byte(out, at) >> nibble % 2 * 4 & 15;
  }
  uint16_t scale(int64_t out, int64_t group) const {
    const int64_t at = group_at(group) + (pair(out) * 2 + out / 8 % 2) * 2;
    return static_cast<uint16_t>(byte(out, at) | byte(out, at + 1) << 8);
  }
  int32_t zero(int64_t out, int64_t group) const {
    return byte(out, group_at(group) + 128 + pair(out)) >> out / 8 % 2 * 4 & 15;
  }
  float weight(int64_t out, int64_t in) const {
    return f16_to_f32(scale(out, in / 128)) * static_cast<float>(code(out, in) - zero(out, in / 128));
  }

 private:
  static int64_t pair(int64_t out) { return out % 64 / 16 * 8 + out % 8; }
  int64_t group_at(int64_t group) const { return (cols_ + 63) / 64 * 2048 + group * 160; }
  int32_t byte(int64_t out, int64_t at) const {
    const size_t row = static_cast<size_t>(out / 64) * tile_row_bytes(cols_, kFormat);
    return static_cast<int32_t>(packed_[row + static_cast<size_t>(at)]);
  }

  const std::vector<std::byte>& packed_;
  int64_t cols_;
};

// That `packed` has the codes, scales and zero points of a layer's outputs and inputs from these on.
void check_kept(const std::vector<std::byte>& packed, const CodedLayer& layer, Range rows, Range cols) {
  const Unpacked found(packed, cols.size());
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    for (int64_t col = cols.begin; col < cols.end; ++col) {
      const auto shared = static_cast<size_t>(col / layer.group * layer.rows + row);
      const int64_t out = row - rows.begin, in = col - cols.begin;
      REQUIRE(found.code(out, in) == layer.codes[static_cast<size_t>(row * layer.cols + col)]);
      REQUIRE(found.scale(out, in / 128) == layer.scales[shared]);
      REQUIRE(found.zero(out, in / 128) == layer.zeros[shared]);
    }
  }
}

// A checkpoint with one layer "l".
class OneLayer {
 public:
  explicit OneLayer(const CodedLayer& layer) {
    const std::string path = (dir_.path() / "w.bin").string();
    std::ofstream file(path, std::ios::binary);
    uint64_t at = 0;
    table_.files = {path};
    const auto add = [&](const std::string& name, DType dtype, std::vector<int64_t> shape,
                         const auto& elements) {
      const size_t bytes = elements.size() * sizeof(elements[0]);
      file.write(reinterpret_cast<const char*>(elements.data()), static_cast<std::streamsize>(bytes));
      table_.tensors.push_back({name, 0, at, dtype, std::move(shape)});
      at += bytes;
    };
    add("l", layer.dtype, {layer.rows, layer.cols}, layer.code_words());
    add("scales", DType::f16, {layer.groups(), layer.rows}, layer.scales);
    add("zeros", DType::i32, {layer.groups(), layer.rows / 8}, layer.zero_words());
    table_.tensors[0].quantised = {1,       layer.group, "scales",
                                   "zeros", "",          layer.dtype == DType::awq_4 ? 0 : 1};
  }
  StoredMatrix stored() const {
    const auto& shape = table_.tensors[0].shape;
    return Weights(table_).stored("l", shape[0], shape[1]);
  }
  WeightTable& table() { return table_; }

 private:
  TempDir dir_;
  WeightTable table_;
};

}  // namespace

TEST_CASE("a weight takes 4 bits, and a group 2 bytes and a half per output") {
  const double weights = 4096.0 * 4096;
  CHECK(static_cast<double>(tiled_bytes(4096, 4096, kFormat)) == weights * (0.5 + 2.5 / 128));
  // Rows of tiles begin at multiples of 128 bytes.
  for (const int64_t cols : {8, 72, 128, 136, 11008}) CHECK(tile_row_bytes(cols, kFormat) % 128 == 0);
}

TEST_CASE("packing is a plain decode away from the weights") {
  std::mt19937 random(1);
  constexpr int64_t kRows = 70, kCols = 328;
  std::vector<float> weights = random_floats(random, kRows * kCols, 0.25f);
  for (int64_t i = 0; i < 128; ++i) {
    weights[static_cast<size_t>(5 * kCols + 128 + i)] = 0;
    weights[static_cast<size_t>(6 * kCols + 128 + i)] += 0.5f;  // all of one sign
    weights[static_cast<size_t>(7 * kCols + 128 + i)] -= 0.2f;
  }
  std::vector<std::byte> packed;
  pack_all({weights.data(), DType::f32, kRows, kCols}, kFormat, packed);
  const Unpacked found(packed, kCols);
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t group = 0; group < 3; ++group) {
      const auto first = weights.begin() + row * kCols + group * 128;
      const auto last = first + std::min<int64_t>(128, kCols - group * 128);
      const float least = std::min(0.0f, *std::min_element(first, last));
      const float most = std::max(0.0f, *std::max_element(first, last));
      const double step = (most - least) / 15;
      CHECK(found.scale(row, group) == f32_to_f16(static_cast<float>(step)));
      CHECK(std::abs(found.zero(row, group) * step + least) <= 0.51 * step);
      // Half a step, and the rounding of the scale.
      for (auto each = first; each != last; ++each)
        REQUIRE(std::abs(found.weight(row, each - (weights.begin() + row * kCols)) - *each) <= 0.51 * step);
    }
  }
  // Padding is weights of zero.
  for (int64_t row = 0; row < 128; ++row)
    for (int64_t col = 0; col < 384; ++col)
      if (row >= kRows || col >= kCols)
        REQUIRE(found.code(row, col) == (row < kRows ? found.zero(row, 2) : 0));
}

TEST_CASE("AWQ's and GPTQ's codes, scales and zero points are kept") {
  std::mt19937 random(2);
  for (const DType dtype : {DType::awq_4, DType::gptq_4}) {
    for (const auto& [rows, cols, group] :
         {std::tuple{72, 328, 128}, {136, 256, 128}, {64, 640, 256}, {8, 72, 72}, {16, 200, 1024}}) {
      CAPTURE(cols);
      const CodedLayer layer(random, dtype, rows, cols, group);
      const OneLayer checkpoint(layer);
      const StoredMatrix stored = checkpoint.stored();
      CHECK(std::memcmp(stored.matrix.data, layer.weights.data(), layer.weights.size() * 4) == 0);
      std::vector<std::byte> packed;
      pack_all(stored.matrix, kFormat, packed);
      check_kept(packed, layer, {0, rows}, {0, cols});
    }
  }
}

// Their groups have 16 inputs; the first one is a layer whose inputs all share a scale.
TEST_CASE("the first group of the golden AWQ and GPTQ layers is kept, to the last bit") {
  constexpr int64_t kGroup = 16;
  int32_t count = 0;
  for (const GoldenLayer& golden : read_golden_layers(APAR_GOLDEN_LAYERS)) {
    if (golden.kind != "awq" && golden.kind != "gptq") continue;
    CAPTURE(golden.kind);
    ++count;
    CHECK(!long_groups(golden.layer).has_value());
    QuantisedLayer first = golden.layer;  // its codes come first
    first.cols = kGroup;
    first.groups.resize(kGroup);
    first.scales.resize(static_cast<size_t>(first.rows));
    first.zeros.resize(static_cast<size_t>(first.rows));
    const auto kept = long_groups(first);
    REQUIRE(kept.has_value());
    std::vector<float> weights(static_cast<size_t>(first.rows * kGroup));
    dequantise(first, DType::f32, reinterpret_cast<std::byte*>(weights.data()));
    std::vector<std::byte> packed;
    pack_all({weights.data(),
              DType::f32,
              first.rows,
              kGroup,
              nullptr,
              {kept->scales.data(), kept->zeros.data(), first.rows}},
             kFormat, packed);
    const Unpacked found(packed, kGroup);
    for (int64_t row = 0; row < first.rows; ++row) {
      CHECK(f16_to_f32(found.scale(row, 0)) == golden.layer.scales[static_cast<size_t>(row)]);
      CHECK(found.zero(row, 0) == static_cast<int32_t>(golden.layer.zeros[static_cast<size_t>(row)]));
      for (int64_t col = 0; col < kGroup; ++col)
        REQUIRE(found.weight(row, col) == golden.weights[static_cast<size_t>(row * golden.layer.cols + col)]);
    }
  }
  CHECK(count == 2);
}

TEST_CASE("the shards of a layer keep theirs") {
  std::mt19937 random(3);
  const CodedLayer layer(random, DType::gptq_4, 80, 512);
  for (const auto& [rows, cols] : {std::pair{Range{0, 40}, Range{0, 512}},
                                   {{40, 80}, {0, 512}},
                                   {{0, 80}, {0, 256}},
                                   {{0, 80}, {128, 512}},
                                   {{24, 56}, {256, 384}}}) {
    const MatrixShard shard = shard_of(matrix_of(layer), rows, cols);
    std::vector<std::byte> packed;
    pack_all(shard.matrix, kFormat, packed);
    check_kept(packed, layer, rows, cols);
  }
  // A shard within a group has other groups.
  CHECK(shard_of(matrix_of(layer), {0, 80}, {64, 192}).matrix.groups.scales == nullptr);
}

TEST_CASE("layers that the format cannot hold are decoded, and rounded again") {
  std::mt19937 random(4);
  const auto is_kept = [](const OneLayer& checkpoint) {
    return checkpoint.stored().matrix.groups.scales != nullptr;
  };
  CHECK(is_kept(OneLayer(CodedLayer(random, DType::gptq_4, 16, 256))));
  for (const int64_t group : {8, 32, 64, 96, 192}) {
    CAPTURE(group);
    CHECK(!is_kept(OneLayer(CodedLayer(random, DType::gptq_4, 16, 384, group))));
  }
  // Act-order: inputs of a group do not lie side by side. Groups that are named in order are kept.
  for (const bool shuffled : {false, true}) {
    const CodedLayer layer(random, DType::gptq_4, 16, 256);
    OneLayer checkpoint(layer);
    std::vector<int32_t> order(256);
    for (int32_t i = 0; i < 256; ++i) order[static_cast<size_t>(i)] = i / 128;
    if (shuffled) std::swap(order[3], order[200]);
    WeightTable& table = checkpoint.table();
    std::ofstream file(table.files[0], std::ios::binary | std::ios::app);
    const auto end = std::filesystem::file_size(table.files[0]);
    file.write(reinterpret_cast<const char*>(order.data()), 1024);
    file.close();
    table.tensors.push_back({"order", 0, end, DType::i32, {256}});
    table.tensors[0].quantised->groups = "order";
    CHECK(is_kept(checkpoint) == !shuffled);
  }
  // Scales that f16 does not hold.
  QuantisedLayer layer = {DType::awq_4,
                          8,
                          8,
                          nullptr,
                          1,
                          8,
                          std::vector<float>(8, 0.25f),
                          std::vector<float>(8, 7.0f),
                          std::vector<int32_t>(8, 0)};
  CHECK(long_groups(layer).has_value());
  layer.scales[3] = 0.1f;
  CHECK(!long_groups(layer).has_value());
  layer.dtype = DType::gptq_8;
  layer.scales[3] = 0.5f;
  CHECK(!long_groups(layer).has_value());
}
