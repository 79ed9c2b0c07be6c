#include "ops/cuda/gemm/weight_tiles.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "common/block_formats.h"
#include "common/convert.h"
#include "common/float16.h"
#include "common/float8.h"

namespace apar::cuda {
namespace {

constexpr int32_t kOutsPerBlock = 16;  // of one mma
using Tile = std::array<std::array<float, kTileInputs>, kTileOuts>;

float element(const Matrix& host, int64_t index) {
  if (host.dtype == DType::f32) return static_cast<const float*>(host.data)[index];
  const uint16_t bits = static_cast<const uint16_t*>(host.data)[index];
  return host.dtype == DType::bf16 ? bf16_to_f32(bits) : f16_to_f32(bits);
}

void read_tile(const Matrix& host, int64_t first_input, Tile& tile) {
  for (int64_t out = 0; out < kTileOuts; ++out)
    for (int64_t in = 0; in < kTileInputs; ++in)
      tile[out][in] = out < host.rows && first_input + in < host.cols
                          ? element(host, out * host.cols + first_input + in)
                          : 0.0f;
}

// Copies a source that already has the tile's 16-bit format, piece by piece.
void copy_16(const Matrix& host, int64_t first_input, std::byte* out) {
  const auto* const source = static_cast<const uint16_t*>(host.data);
  for (int64_t row = 0; row < kTileOuts; ++row) {
    for (int64_t piece = 0; piece < kTileInputs / 8; ++piece) {
      const int64_t input = first_input + piece * 8;
      const int64_t left = row < host.rows ? std::clamp<int64_t>(host.cols - input, 0, 8) : 0;
      std::byte* const to = out + row * 128 + ((piece ^ (row % 8)) << 4);
      std::memset(to + left * 2, 0, (8 - left) * 2);
      if (left > 0) std::memcpy(to, source + row * host.cols + input, left * 2);
    }
  }
}

void pack_16(const Tile& tile, WeightFormat format, std::byte* out) {
  for (int32_t row = 0; row < kTileOuts; ++row) {
    for (int32_t in = 0; in < kTileInputs; ++in) {
      const int32_t piece = (in / 8) ^ (row % 8);
      const float weight = tile[row][in];
      const uint16_t bits = format == WeightFormat::f16 ? f32_to_f16(weight) : f32_to_bf16(weight);
      std::memcpy(out + (row * kTileInputs + piece * 8 + in % 8) * 2, &bits, 2);
    }
  }
}

constexpr int32_t kGroups = kTileInputs / kGroupInputs;
using Scales = std::array<std::array<float, kTileOuts>, kGroups>;

// The scales that the source has already (shared_scale) of a group of the tile.
using SharedScales = std::function<std::optional<uint16_t>(int64_t row, int64_t group)>;

// Any other scale is the group's largest weight divided by `end`, rounded to f16 as in ops/cpu/packed.cpp:
// both devices multiply with the same weights.
Scales scales_of(const Tile& tile, float end, const SharedScales& shared) {
  Scales scales;
  for (int32_t group = 0; group < kGroups; ++group) {
    for (int32_t row = 0; row < kTileOuts; ++row) {
      if (const auto scale = shared(row, group)) {
        scales[group][row] = f16_to_f32(*scale);
        continue;
      }
      float largest = 0;
      for (int32_t in = 0; in < kGroupInputs; ++in) {
        const float weight = tile[row][group * kGroupInputs + in];
        if (std::isnan(weight) || std::abs(weight) > std::abs(largest)) largest = weight;
      }
      scales[group][row] = f16_to_f32(f32_to_f16((end > 0 ? std::abs(largest) : largest) / end));
    }
  }
  return scales;
}

int32_t quantise(float weight, float scale, int32_t min, int32_t max) {
  const float inverse = scale != 0 ? 1 / scale : 0;
  return std::clamp(static_cast<int32_t>(std::lrintf(weight * inverse)), min, max);
}

// Calls visit(output, input, block, lane, step, i, half) for every value of a tile. The value is element
// `half` of register a[i] of `lane` in step `step` (16 inputs) of the block of 16 outputs (intrinsics.cuh).
template <class Visit>
void for_each_fragment(Visit visit) {
  for (int32_t block = 0; block < kTileOuts / kOutsPerBlock; ++block)
    for (int32_t lane = 0; lane < 32; ++lane)
      for (int32_t step = 0; step < kTileInputs / 16; ++step)
        for (int32_t i = 0; i < 4; ++i)
          for (int32_t half = 0; half < 2; ++half)
            visit(block * kOutsPerBlock + lane / 4 + 8 * (i % 2),
                  step * 16 + 2 * (lane % 4) + 8 * (i / 2) + half, block, lane, step, i, half);
}

// The offset of an 8-bit value in its tile.
int32_t byte_of_fragment(int32_t block, int32_t lane, int32_t step, int32_t i, int32_t half) {
  return block * 1024 + step / 2 * 512 + lane * 16 + step % 2 * 8 + i * 2 + half;
}

void pack_int8(const Tile& tile, const SharedScales& shared, std::byte* out) {
  const Scales scales = scales_of(tile, 127, shared);
  for_each_fragment(
      [&](int32_t row, int32_t in, int32_t block, int32_t lane, int32_t step, int32_t i, int32_t half) {
        out[byte_of_fragment(block, lane, step, i, half)] =
            static_cast<std::byte>(quantise(tile[row][in], scales[in / kGroupInputs][row], -127, 127) + 128);
      });
  std::memcpy(out + kTileOuts * kTileInputs, scales.data(), sizeof(scales));
}

using RowScales = std::array<float, kTileOuts>;

// The scales that the weights were decoded with, which give the same codes again; else the scales map the
// largest weight of each output to the largest e4m3.
RowScales row_scales(const Matrix& host) {
  RowScales scales{};
  if (host.row_scales) {
    std::copy_n(host.row_scales, host.rows, scales.begin());
    return scales;
  }
  for (int64_t row = 0; row < host.rows; ++row) {
    float largest = 0;
    for (int64_t in = 0; in < host.cols; ++in) {
      const float weight = std::abs(element(host, row * host.cols + in));
      if (std::isnan(weight) || weight > largest) largest = weight;
    }
    scales[row] = largest / kLargestE4m3;
  }
  return scales;
}

void pack_fp8(const Tile& tile, const RowScales& scales, std::byte* out) {
  for_each_fragment(
      [&](int32_t row, int32_t in, int32_t block, int32_t lane, int32_t step, int32_t i, int32_t half) {
        const float inverse = scales[row] != 0 ? 1 / scales[row] : 0;
        out[byte_of_fragment(block, lane, step, i, half)] =
            static_cast<std::byte>(f32_to_e4m3(tile[row][in] * inverse));
      });
}

// Packs code(row, in), a number of 4 bits, of all weights.
template <class Code>
void pack_nibbles(Code code, std::byte* out) {
  std::memset(out, 0, kTileOuts * kTileInputs / 2);
  for_each_fragment(
      [&](int32_t row, int32_t in, int32_t block, int32_t lane, int32_t step, int32_t i, int32_t half) {
        const int32_t nibble = i + 4 * half;  // of the step's 32-bit word: the two halves lie 16 bits apart
        const int32_t at = block * 512 + lane * 16 + step * 4 + nibble / 2;
        out[at] |= static_cast<std::byte>(code(row, in) << nibble % 2 * 4);
      });
}

// The group's largest weight becomes -8, because the range is [-8, 7].
void pack_int4(const Tile& tile, const SharedScales& shared, std::byte* out) {
  const Scales scales = scales_of(tile, -8, shared);
  pack_nibbles([&](int32_t row,
                   int32_t in) { return quantise(tile[row][in], scales[in / kGroupInputs][row], -8, 7) + 8; },
               out);
  std::memcpy(out + kTileOuts * kTileInputs / 2, scales.data(), sizeof(scales));
}

// The scales and zero points of a row of tiles, [groups of 128 inputs][64 outputs].
class GroupsOfRow {
 public:
  // Those of the codes that the weights were decoded from, which give the same codes again; else the codes 0
  // to 15 span the weights of the group and zero.
  explicit GroupsOfRow(const Matrix& host) {
    const int64_t groups = tiles_of(host.cols, kLongGroupInputs);
    scales_.resize(static_cast<size_t>(groups * kTileOuts));
    zeros_.resize(scales_.size());
    for (int64_t group = 0; group < groups; ++group) {
      for (int64_t row = 0; row < host.rows; ++row) {
        const auto at = static_cast<size_t>(group * kTileOuts + row);
        if (host.groups.scales != nullptr) {
          scales_[at] = host.groups.scales[group * host.groups.stride + row];
          zeros_[at] = host.groups.zeros[group * host.groups.stride + row];
          continue;
        }
        float least = 0, most = 0;
        const int64_t first = group * kLongGroupInputs, last = std::min(host.cols, first + kLongGroupInputs);
        for (int64_t in = first; in < last; ++in) {
          const float weight = element(host, row * host.cols + in);
          if (std::isnan(weight) || weight < least) least = weight;
          if (weight > most) most = weight;
        }
        scales_[at] = f32_to_f16((most - least) / kLastCode);
        zeros_[at] = static_cast<uint8_t>(quantise(-least, f16_to_f32(scales_[at]), 0, kLastCode));
      }
    }
  }

  int32_t code(int64_t row, int64_t input, float weight) const {
    const auto at = static_cast<size_t>(input / kLongGroupInputs * kTileOuts + row);
    return quantise(weight, f16_to_f32(scales_[at]), -zeros_[at], kLastCode - zeros_[at]) + zeros_[at];
  }

  void write(std::span<std::byte> space) const {
    std::ranges::fill(space, std::byte{0});
    std::byte* out = space.data();
    for (size_t first = 0; first < scales_.size(); first += kTileOuts) {
      std::byte* const zeros = out + kGroupScaleBytes;
      for (int32_t row = 0; row < kTileOuts; ++row) {
        const int32_t pair = row / kOutsPerBlock * 8 + row % 8, upper = row / 8 % 2;
        std::memcpy(out + (pair * 2 + upper) * sizeof(uint16_t), &scales_[first + row], sizeof(uint16_t));
        zeros[pair] |= static_cast<std::byte>(zeros_[first + row] << 4 * upper);
      }
      out += kGroupScaleBytes + kGroupZeroBytes;
    }
  }

 private:
  static constexpr int32_t kLastCode = 15;
  std::vector<uint16_t> scales_;
  std::vector<uint8_t> zeros_;
};

}  // namespace

size_t tiled_bytes(int64_t rows, int64_t cols, WeightFormat format) {
  return size_t{1} * tiles_of(rows, kTileOuts) * tile_row_bytes(cols, format);
}

void pack_tiles(const Matrix& host, WeightFormat format, int32_t tile, std::byte* out) {
  const int64_t first_out = int64_t{tile} * kTileOuts;
  const Matrix stored = row_slice(host, first_out, std::min<int64_t>(kTileOuts, host.rows - first_out));
  std::vector<float> scratch;
  const Matrix plain = with_plain_elements(stored, scratch);
  Tile values;
  std::byte* const row = out;
  const RowScales scales = format == WeightFormat::fp8 ? row_scales(plain) : RowScales{};
  std::optional<GroupsOfRow> groups;
  if (format == WeightFormat::int4_g128) groups.emplace(plain);
  for (int64_t input = 0; input < host.cols; input += kTileInputs) {
    if ((format == WeightFormat::bf16 && host.dtype == DType::bf16) ||
        (format == WeightFormat::f16 && host.dtype == DType::f16)) {
      copy_16(stored, input, out);
    } else {
      const auto shared = [&](int64_t row, int64_t group) {
        return row < stored.rows ? shared_scale(stored, format, row, input / kGroupInputs + group)
                                 : std::nullopt;
      };
      read_tile(plain, input, values);
      if (format == WeightFormat::int8)
        pack_int8(values, shared, out);
      else if (format == WeightFormat::int4)
        pack_int4(values, shared, out);
      else if (groups)
        pack_nibbles([&](int32_t row, int32_t in) { return groups->code(row, input + in, values[row][in]); },
                     out);
      else if (format == WeightFormat::fp8)
        pack_fp8(values, scales, out);
      else
        pack_16(values, format, out);
    }
    out += tile_bytes(format);
  }
  if (row_scale_bytes(format) > 0) std::memcpy(out, scales.data(), sizeof(scales));
  if (groups) groups->write({out, tile_row_bytes(host.cols, format) - static_cast<size_t>(out - row)});
}

void pack_pair_tiles(const Matrix& gate, const Matrix& up, WeightFormat format, int32_t tile,
                     std::byte* out) {
  const size_t row_bytes = static_cast<size_t>(stored_bytes(gate.dtype, gate.cols));
  std::vector<std::byte> rows(kTileOuts * row_bytes);  // zeros where the layers have no more outputs
  RowScales scales{};
  const int64_t groups = gate.groups.scales ? tiles_of(gate.cols, kLongGroupInputs) : 0;
  std::vector<uint16_t> group_scales(static_cast<size_t>(groups * kTileOuts));
  std::vector<uint8_t> group_zeros(group_scales.size());
  for (int32_t first = 0; first < kTileOuts; first += kPairOuts) {
    const Matrix& layer = first / kPairOuts % 2 == 0 ? gate : up;
    const int64_t from = int64_t{tile} * kTileOuts / 2 + first / (2 * kPairOuts) * kPairOuts;
    const int64_t count = std::clamp<int64_t>(layer.rows - from, 0, kPairOuts);
    if (count == 0) continue;
    const Matrix part = row_slice(layer, from, count);
    std::memcpy(rows.data() + first * row_bytes, part.data, static_cast<size_t>(count) * row_bytes);
    if (part.row_scales) std::copy_n(part.row_scales, count, scales.begin() + first);
    for (int64_t group = 0; group < groups; ++group) {
      const LongGroups own = part.groups.from(0, group);
      std::copy_n(own.scales, count, group_scales.begin() + group * kTileOuts + first);
      std::copy_n(own.zeros, count, group_zeros.begin() + group * kTileOuts + first);
    }
  }
  const LongGroups shared =
      groups > 0 ? LongGroups{group_scales.data(), group_zeros.data(), kTileOuts} : LongGroups{};
  const Matrix pair = {
      rows.data(), gate.dtype, kTileOuts, gate.cols, gate.row_scales ? scales.data() : nullptr, shared};
  pack_tiles(pair, format, 0, out);
}

}  // namespace apar::cuda
