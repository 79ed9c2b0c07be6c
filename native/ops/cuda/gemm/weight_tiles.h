#pragma once

#include <cstddef>
#include <cstdint>

#include "common/matrix.h"
#include "ops/cuda/gemm/plan.h"

namespace apar::cuda {

// The layout of a packed tile:
//   bf16, f16   [64 outputs][64 inputs]. The 16-byte pieces of output o are permuted: piece p is stored at
//               p ^ (o % 8). So the pieces of eight outputs lie in different banks, and the layout is wgmma's
//               128-byte swizzle.
//   int8, int4  the values in the order in which the lanes of a warp hold them for mma.m16n8k16, so that a
//               lane reads 16 bytes at once; then scales (f32): [2 groups of 32 inputs][64 outputs]. A weight
//               is scale * value, with values in [-127, 127] or [-8, 7].
//   fp8         e4m3, in the same order. The scales (f32), one per output, follow the last tile of the row of
//               tiles.
//   int4_g128   nibbles as in int4, without scales. What groups of 128 inputs share follows the last tile of
//               the row of tiles: per group the scales (f16), [4 blocks of 16 outputs][8][outputs i, i + 8],
//               then zero points of 4 bits, [4 blocks][8][output i in the low half, i + 8]. A weight is
//               scale * (value - zero point), with values in [0, 15]. A lane multiplies outputs i and i + 8.
constexpr int32_t kGroupInputs = 32;
constexpr int32_t kScaleBytes = kTileInputs / kGroupInputs * kTileOuts * 4;
constexpr int32_t tile_bytes(WeightFormat format) {
  constexpr int32_t values = kTileOuts * kTileInputs;
  if (format == WeightFormat::int8) return values + kScaleBytes;
  if (format == WeightFormat::int4) return values / 2 + kScaleBytes;
  if (format == WeightFormat::int4_g128) return values / 2;
  return format == WeightFormat::fp8 ? values : values * 2;
}
constexpr int32_t kLongGroupInputs = LongGroups::kInputs, kTilesPerLongGroup = kLongGroupInputs / kTileInputs;
constexpr int32_t kGroupScaleBytes = kTileOuts * 2, kGroupZeroBytes = kTileOuts / 2;
// Bytes that follow a row of tiles: once, and for each group of 128 inputs.
constexpr int32_t row_scale_bytes(WeightFormat format) {
  return format == WeightFormat::fp8 ? kTileOuts * 4 : 0;
}
constexpr int32_t long_group_bytes(WeightFormat format) {
  return format == WeightFormat::int4_g128 ? kGroupScaleBytes + kGroupZeroBytes : 0;
}
// Bytes of a row of tiles: all tiles of 64 outputs, one after the other along the inputs, and its scales.
constexpr size_t tile_row_bytes(int64_t cols, WeightFormat format) {
  const size_t tiles = size_t{1} * tiles_of(cols, kTileInputs) * tile_bytes(format);
  const size_t groups = size_t{1} * tiles_of(cols, kLongGroupInputs) * long_group_bytes(format);
  // Every row of tiles begins at a multiple of 128 bytes, as far as the cache fetches at once.
  return tiles + row_scale_bytes(format) + (groups + 127) / 128 * 128;
}

// The layers gate and up of a gated MLP, which have the same shape, may be packed as one matrix: eight
// outputs of gate, the same eight of up, the next eight of gate. The thread that holds an output of gate in
// an mma fragment then holds the same output of up, too (write_pair() in blocks.cuh). The matrix has as many
// tiles as the two layers, so sums are split as those of the two; its last tile may hold no outputs.
constexpr int32_t kPairOuts = 8;
enum class PairHalf : uint8_t { none, gate, up };  // none: the layer is packed by itself

// The tiles of a pair of layers with `rows` outputs each.
constexpr int32_t pair_tiles(int64_t rows) {
  return 2 * tiles_of(rows, kTileOuts);
}

// Whether layers of `cols` inputs can be packed: the kernels copy 16 bytes, eight inputs of x, at a time.
constexpr bool packable(int64_t cols) {
  return cols % 8 == 0;
}

size_t tiled_bytes(int64_t rows, int64_t cols, WeightFormat format);

// Packs the row of tiles of the outputs [64 * tile, 64 * (tile + 1)) into tile_row_bytes() bytes. A scale is
// the largest magnitude of its group, or of its output, divided by the largest value of the format, unless
// the source has scales of its own (shared_scale(), Matrix::row_scales, Matrix::groups). In groups of 128
// inputs it is a 15th of the span of the group's weights and zero.
void pack_tiles(const Matrix& host, WeightFormat format, int32_t tile, std::byte* out);

// Whether two layers can be a pair: of the same shape and type, both with scales of their own or neither.
inline bool stored_alike(const Matrix& gate, const Matrix& up) {
  return gate.dtype == up.dtype && gate.rows == up.rows && gate.cols == up.cols &&
         (gate.row_scales == nullptr) == (up.row_scales == nullptr) &&
         (gate.groups.scales == nullptr) == (up.groups.scales == nullptr);
}
// Packs a row of tiles of a pair of layers that are stored alike.
void pack_pair_tiles(const Matrix& gate, const Matrix& up, WeightFormat format, int32_t tile, std::byte* out);

}  // namespace apar::cuda
