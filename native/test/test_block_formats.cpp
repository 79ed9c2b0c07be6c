// Tensors that are stored in blocks, as in GGUF files. The golden blocks are from test/golden/gguf.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "common/block_formats.h"
#include "common/convert.h"
#include "common/error.h"
#include "common/float16.h"
#include "model/weights.h"
#include "ops/cpu/packed.h"
#include "ops/sharded/sharded_plan.h"
#include "test/random_model.h"

using namespace apar;
using namespace apar::test;

namespace {

struct GoldenBlock {
  std::string name;
  std::vector<std::byte> bytes;
  std::vector<float> weights;
};

std::vector<std::byte> from_hex(const std::string& hex) {
  std::vector<std::byte> bytes;
  for (size_t i = 0; i < hex.size(); i += 2)
    bytes.push_back(static_cast<std::byte>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  return bytes;
}

std::vector<GoldenBlock> golden_blocks() {
  std::ifstream file(APAR_GOLDEN_BLOCKS);
  std::vector<GoldenBlock> blocks;
  std::string name, bytes, weights;
  while (file >> name >> bytes >> weights) {
    GoldenBlock& block = blocks.emplace_back();
    block.name = name;
    block.bytes = from_hex(bytes);
    const std::vector<std::byte> raw = from_hex(weights);
    block.weights.resize(raw.size() / sizeof(float));
    std::memcpy(block.weights.data(), raw.data(), raw.size());
  }
  return blocks;
}

// A q8_0 or q4_0 matrix with random scales of both signs. In half of the groups no weight has the largest
// value of its format, so that the scale cannot be found from the weights.
std::vector<std::byte> random_blocks(DType dtype, int64_t rows, int64_t cols, std::mt19937& rng) {
  std::vector<std::byte> bytes(static_cast<size_t>(stored_bytes(dtype, rows * cols)));
  const BlockSize block = block_size(dtype);
  for (size_t at = 0; at < bytes.size(); at += static_cast<size_t>(block.bytes)) {
    const uint16_t scale = f32_to_f16(std::uniform_real_distribution<float>(-2, 2)(rng));
    std::memcpy(bytes.data() + at, &scale, 2);
    const bool narrow = rng() % 2 == 0;
    for (int32_t i = 2; i < block.bytes; ++i) {
      const int32_t most = narrow ? 5 : dtype == DType::q8_0 ? 127 : 7;
      const auto value = [&] { return std::uniform_int_distribution<int32_t>(-most, most)(rng); };
      const int32_t byte = dtype == DType::q8_0 ? value() : (value() + 8) | (value() + 8) << 4;
      bytes[at + static_cast<size_t>(i)] = static_cast<std::byte>(byte);
    }
  }
  return bytes;
}

}  // namespace

TEST_CASE("every block format gives the golden weights") {
  const std::vector<GoldenBlock> blocks = golden_blocks();
  REQUIRE(blocks.size() == 11);
  for (const GoldenBlock& block : blocks) {
    CAPTURE(block.name);
    const DType dtype = parse_dtype(block.name);
    REQUIRE(static_cast<size_t>(block_size(dtype).bytes) == block.bytes.size());
    REQUIRE(static_cast<size_t>(block_size(dtype).elements) == block.weights.size());
    std::vector<float> weights(block.weights.size());
    decode_block(dtype, block.bytes.data(), weights.data());
    for (size_t i = 0; i < weights.size(); ++i) {
      CAPTURE(i);
      CHECK(weights[i] == doctest::Approx(block.weights[i]).epsilon(1e-6));
    }
    std::vector<uint16_t> rounded(weights.size());
    convert(block.bytes.data(), dtype, static_cast<int64_t>(weights.size()),
            reinterpret_cast<std::byte*>(rounded.data()), DType::bf16);
    for (size_t i = 0; i < weights.size(); ++i) CHECK(rounded[i] == f32_to_bf16(weights[i]));
  }
}

TEST_CASE("q8_0 becomes int8 and q4_0 becomes int4 without a second rounding") {
  std::mt19937 rng(5);
  constexpr int64_t kRows = 40, kCols = 96;
  for (const auto& [dtype, format] :
       {std::pair{DType::q8_0, WeightFormat::int8}, {DType::q4_0, WeightFormat::int4}}) {
    const std::vector<std::byte> bytes = random_blocks(dtype, kRows, kCols, rng);
    const Matrix w = {bytes.data(), dtype, kRows, kCols};
    std::vector<std::byte> packed(static_cast<size_t>(cpu::panels(kRows) * cpu::panel_bytes(format, kCols)));
    cpu::pack_panels(w, format, 0, cpu::panels(kRows), packed.data());
    const int64_t group_bytes = format == WeightFormat::int8 ? cpu::kInt8GroupBytes : cpu::kInt4GroupBytes;
    for (int64_t row = 0; row < kRows; ++row) {
      for (int64_t group = 0; group < kCols / 32; ++group) {
        const int64_t block = (row * kCols / 32 + group) * block_size(dtype).bytes;
        const std::byte* const source = bytes.data() + block;
        const std::byte* const target =
            packed.data() + row / 32 * cpu::panel_bytes(format, kCols) + group * group_bytes;
        const int64_t lane = row % 32;
        CHECK(std::memcmp(target + group_bytes - 64 + lane * 2, source, 2) == 0);
        for (int64_t i = 0; i < block_size(dtype).bytes - 2; ++i) {
          const auto stored = static_cast<uint8_t>(source[2 + i]);
          const auto value = static_cast<uint8_t>(target[(i / 4 * 32 + lane) * 4 + i % 4]);
          CHECK(value == (dtype == DType::q8_0 ? static_cast<uint8_t>(stored + 128) : stored));
        }
      }
    }
  }
}

TEST_CASE("a shard of whole blocks keeps them, any other is decoded") {
  std::mt19937 rng(6);
  constexpr int64_t kRows = 8, kCols = 128;
  const std::vector<std::byte> bytes = random_blocks(DType::q8_0, kRows, kCols, rng);
  const Matrix w = {bytes.data(), DType::q8_0, kRows, kCols};
  std::vector<float> all, part;
  with_plain_elements(w, all);
  for (const auto& [begin, end, dtype] :
       {std::tuple{int64_t{64}, int64_t{128}, DType::q8_0}, {int64_t{16}, int64_t{48}, DType::f32}}) {
    const MatrixShard shard = shard_of(w, {2, 6}, {begin, end});
    CHECK(shard.matrix.dtype == dtype);
    const Matrix plain = with_plain_elements(shard.matrix, part);
    const auto* const values = static_cast<const float*>(plain.data);
    for (int64_t row = 0; row < 4; ++row)
      for (int64_t i = 0; i < end - begin; ++i)
        CHECK(values[row * (end - begin) + i] == all[static_cast<size_t>((row + 2) * kCols + begin + i)]);
  }
}

TEST_CASE("an interleaved bias is put into order like the rows of its layer") {
  constexpr int64_t kHeads = 3, kHeadDim = 10, kRows = kHeads * kHeadDim;
  const TempDir dir;
  const std::string path = (dir.path() / "bias.bin").string();
  std::vector<float> stored(kRows), want(kRows);
  for (int64_t row = 0; row < kRows; ++row) {
    const int64_t head = row / kHeadDim, within = row % kHeadDim;
    stored[row] = static_cast<float>(row);
    want[head * kHeadDim + within % 2 * (kHeadDim / 2) + within / 2] = static_cast<float>(row);
  }
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(stored.data()), kRows * static_cast<int64_t>(sizeof(float)));
  TensorInfo info = {"q.bias", 0, 0, DType::f32, {kRows}, kHeads};
  Weights weights({{path}, {info}});
  const Matrix bias = weights.vector("q.bias", kRows);
  CHECK(std::memcmp(bias.data, want.data(), want.size() * sizeof(float)) == 0);
  info.interleaved_heads = 4;
  Weights odd({{path}, {info}});
  CHECK_THROWS_AS(odd.vector("q.bias", kRows), Error);
}

TEST_CASE("interleaved rows of a head are put into order, blocks and plain elements alike") {
  const TempDir dir;
  const std::string path = (dir.path() / "w.bin").string();
  std::mt19937 rng(8);
  constexpr int64_t kRows = 16, kCols = 32, kHeads = 2, kHalf = kRows / kHeads / 2;
  for (const DType dtype : {DType::q4_0, DType::f32}) {
    std::vector<std::byte> bytes = random_blocks(DType::q4_0, kRows, kCols, rng);
    if (dtype == DType::f32) {
      std::vector<float> plain;
      with_plain_elements({bytes.data(), DType::q4_0, kRows, kCols}, plain);
      bytes.resize(plain.size() * sizeof(float));
      std::memcpy(bytes.data(), plain.data(), bytes.size());
    }
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    TensorInfo info = {"q", 0, 0, dtype, {kRows, kCols}};
    info.interleaved_heads = kHeads;
    const Weights weights({{path}, {info}});
    const StoredMatrix stored = weights.stored("q", kRows, kCols);
    const auto row_bytes = static_cast<size_t>(stored_bytes(dtype, kCols));
    for (int64_t head = 0; head < kHeads; ++head)
      for (int64_t half = 0; half < 2; ++half)
        for (int64_t i = 0; i < kHalf; ++i) {
          const auto* const row = static_cast<const std::byte*>(stored.matrix.data) +
                                  static_cast<size_t>((head * 2 + half) * kHalf + i) * row_bytes;
          const std::byte* const source =
              bytes.data() + static_cast<size_t>(head * 2 * kHalf + 2 * i + half) * row_bytes;
          CHECK(std::memcmp(row, source, row_bytes) == 0);
        }
  }
}
