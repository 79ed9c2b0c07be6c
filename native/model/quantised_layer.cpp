#include "model/quantised_layer.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "common/float16.h"
#include "common/float8.h"
#include "common/in_parallel.h"
#include "common/matrix.h"

namespace apar {
namespace {

// Nibble i of a word of AWQ belongs to this of its 8 rows.
constexpr std::array<int32_t, 8> kAwqRows = {0, 2, 4, 6, 1, 3, 5, 7};

constexpr int32_t bits_of(DType dtype) {
  return dtype == DType::gptq_8 ? 8 : 4;
}

void read_words(const std::byte* source, int64_t first, int64_t count, uint32_t* words) {
  std::memcpy(words, source + first * sizeof(uint32_t), static_cast<size_t>(count) * sizeof(uint32_t));
}

void put(float value, float& weight) {
  weight = value;
}
void put(float value, uint16_t& weight) {
  weight = f32_to_bf16(value);
}

// A tile of the weights while it is unpacked. Its rows are neighbours in memory, as in the scales.
constexpr int64_t kTileRows = 64, kTileCols = 64;
using Codes = std::array<std::array<uint8_t, kTileRows>, kTileCols>;
using Values = std::array<std::array<float, kTileRows>, kTileCols>;

struct TileRange {
  int64_t first_row, rows, first_col, cols;
};

void unpack_awq(const QuantisedLayer& layer, const TileRange& tile, Codes& codes) {
  uint32_t words[kTileRows / 8];
  for (int64_t col = 0; col < tile.cols; ++col) {
    read_words(layer.codes, ((tile.first_col + col) * layer.rows + tile.first_row) / 8, tile.rows / 8, words);
    for (int64_t word = 0; word < tile.rows / 8; ++word)
      for (int32_t i = 0; i < 8; ++i)
        codes[col][word * 8 + kAwqRows[i]] = static_cast<uint8_t>(words[word] >> i * 4 & 15);
  }
}

template <int32_t kBits>
void unpack_gptq(const QuantisedLayer& layer, const TileRange& tile, Codes& codes) {
  constexpr int32_t kPerWord = 32 / kBits;
  uint32_t words[kTileRows];
  for (int64_t col = 0; col < tile.cols; col += kPerWord) {
    read_words(layer.codes, (tile.first_col + col) / kPerWord * layer.rows + tile.first_row, tile.rows,
               words);
    for (int32_t i = 0; i < kPerWord; ++i)
      for (int64_t row = 0; row < tile.rows; ++row)
        codes[col + i][row] = static_cast<uint8_t>(words[row] >> i * kBits & ((1u << kBits) - 1));
  }
}

template <class Weight>
void dequantise_tile(const QuantisedLayer& layer, const TileRange& tile, Weight* weights) {
  Codes codes;
  if (layer.dtype == DType::awq_4)
    unpack_awq(layer, tile, codes);
  else if (layer.dtype == DType::gptq_4)
    unpack_gptq<4>(layer, tile, codes);
  else
    unpack_gptq<8>(layer, tile, codes);
  Values values;
  for (int64_t col = 0; col < tile.cols; ++col) {
    const int64_t group = layer.groups[static_cast<size_t>(tile.first_col + col)];
    const float* const scales = layer.scales.data() + group * layer.rows + tile.first_row;
    const float* const zeros = layer.zeros.data() + group * layer.rows + tile.first_row;
    for (int64_t row = 0; row < tile.rows; ++row)
      values[col][row] = scales[row] * (static_cast<float>(codes[col][row]) - zeros[row]);
  }
  for (int64_t row = 0; row < tile.rows; ++row)
    for (int64_t col = 0; col < tile.cols; ++col)
      put(values[col][row], weights[(tile.first_row + row) * layer.cols + tile.first_col + col]);
}

template <class Weight>
void dequantise_packed(const QuantisedLayer& layer, Weight* weights) {
  in_parallel(static_cast<size_t>((layer.rows + kTileRows - 1) / kTileRows), [&](size_t index) {
    const int64_t first_row = static_cast<int64_t>(index) * kTileRows;
    const int64_t rows = std::min(kTileRows, layer.rows - first_row);
    for (int64_t first_col = 0; first_col < layer.cols; first_col += kTileCols)
      dequantise_tile(layer, {first_row, rows, first_col, std::min(kTileCols, layer.cols - first_col)},
                      weights);
  });
}

std::array<float, 256> e4m3_values() {
  std::array<float, 256> values;
  for (size_t code = 0; code < values.size(); ++code) values[code] = e4m3_to_f32(static_cast<uint8_t>(code));
  return values;
}

template <class Weight>
void dequantise_fp8(const QuantisedLayer& layer, Weight* weights) {
  constexpr int64_t kRowsAtATime = 16;
  static const std::array<float, 256> values = e4m3_values();
  const int64_t blocks = (layer.cols + layer.block_cols - 1) / layer.block_cols;
  const auto* const codes = reinterpret_cast<const uint8_t*>(layer.codes);
  in_parallel(static_cast<size_t>((layer.rows + kRowsAtATime - 1) / kRowsAtATime), [&](size_t index) {
    const int64_t first = static_cast<int64_t>(index) * kRowsAtATime;
    for (int64_t row = first; row < std::min(first + kRowsAtATime, layer.rows); ++row) {
      const float* const scales = layer.scales.data() + row / layer.block_rows * blocks;
      for (int64_t block = 0; block < blocks; ++block) {
        const int64_t begin = row * layer.cols + block * layer.block_cols;
        const int64_t end = std::min(begin + layer.block_cols, (row + 1) * layer.cols);
        for (int64_t i = begin; i < end; ++i) put(scales[block] * values[codes[i]], weights[i]);
      }
    }
  });
}

template <class Weight>
void dequantise_to(const QuantisedLayer& layer, Weight* weights) {
  if (layer.dtype == DType::f8_e4m3)
    dequantise_fp8(layer, weights);
  else
    dequantise_packed(layer, weights);
}

}  // namespace

std::vector<float> unpack_zeros(DType dtype, const std::byte* words, int64_t count, int32_t offset) {
  const int32_t bits = bits_of(dtype), per_word = 32 / bits;
  const uint32_t mask = (1u << bits) - 1, ones = ~uint32_t{0} / mask;  // 0x11111111 or 0x01010101
  std::vector<float> zeros(static_cast<size_t>(count));
  for (int64_t first = 0; first < count; first += per_word) {
    uint32_t word;
    read_words(words, first / per_word, 1, &word);
    word += static_cast<uint32_t>(offset) * ones;
    for (int32_t i = 0; i < per_word; ++i)
      zeros[static_cast<size_t>(first + (dtype == DType::awq_4 ? kAwqRows[i] : i))] =
          static_cast<float>(word >> i * bits & mask);
  }
  return zeros;
}

std::optional<LongGroupParts> long_groups(const QuantisedLayer& layer) {
  if (layer.dtype != DType::awq_4 && layer.dtype != DType::gptq_4) return std::nullopt;
  LongGroupParts parts;
  for (int64_t first = 0; first < layer.cols; first += LongGroups::kInputs) {
    const auto begin = layer.groups.begin() + first;
    const auto end = layer.groups.begin() + std::min(first + LongGroups::kInputs, layer.cols);
    if (std::any_of(begin, end, [&](int32_t group) { return group != *begin; })) return std::nullopt;
    for (int64_t i = *begin * layer.rows; i < (*begin + 1) * layer.rows; ++i) {
      const float scale = layer.scales[static_cast<size_t>(i)];
      const uint16_t bits = f32_to_f16(scale);
      if (f16_to_f32(bits) != scale) return std::nullopt;
      parts.scales.push_back(bits);
      parts.zeros.push_back(static_cast<uint8_t>(layer.zeros[static_cast<size_t>(i)]));
    }
  }
  return parts;
}

void dequantise(const QuantisedLayer& layer, DType dtype, std::byte* weights) {
  if (dtype == DType::bf16)
    dequantise_to(layer, reinterpret_cast<uint16_t*>(weights));
  else
    dequantise_to(layer, reinterpret_cast<float*>(weights));
}

}  // namespace apar
