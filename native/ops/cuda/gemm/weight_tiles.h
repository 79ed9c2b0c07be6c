#pragma once

#include <cstddef>
#include <cstdint>

#include "common/matrix.h"
#include "ops/cuda/gemm/plan.h"

namespace apar::cuda {

// A packed tile:
//   bf16, f16   [64 outputs][64 inputs]; the 16-byte pieces of output o are permuted, piece p stands at
//               p ^ (o % 8): eight outputs' pieces lie in different banks, and it is wgmma's 128-byte
//               swizzle.
//   int8, int4  the values in the order in which the lanes of a warp hold them for mma.m16n8k16, so that a
//               lane reads 16 bytes at once, then scales (f32): [2 groups of 32 inputs][64 outputs]. A weight
//               is scale * value, value in [-127, 127] or [-8, 7].
//   fp8         e4m3, in the same order; a scale (f32) per output stands after the output's last tile.
constexpr int32_t kGroupInputs = 32;
constexpr int32_t kScaleBytes = kTileInputs / kGroupInputs * kTileOuts * 4;
constexpr int32_t tile_bytes(WeightFormat format) {
  constexpr int32_t values = kTileOuts * kTileInputs;
  if (format == WeightFormat::int8) return values + kScaleBytes;
  if (format == WeightFormat::int4) return values / 2 + kScaleBytes;
  return format == WeightFormat::fp8 ? values : values * 2;
}
// After the tiles of 64 outputs.
constexpr int32_t row_scale_bytes(WeightFormat format) {
  return format == WeightFormat::fp8 ? kTileOuts * 4 : 0;
}
// All tiles of 64 outputs, one after the other along the inputs.
constexpr size_t tile_row_bytes(int64_t cols, WeightFormat format) {
  return size_t{1} * tiles_of(cols, kTileInputs) * tile_bytes(format) + row_scale_bytes(format);
}

size_t tiled_bytes(int64_t rows, int64_t cols, WeightFormat format);

// Packs tile after tile of the outputs [64 * tile, 64 * (tile + 1)): tile_row_bytes() of them. Scales are the
// group's, or the output's, largest magnitude over the largest value.
void pack_tiles(const Matrix& host, WeightFormat format, int32_t tile, std::byte* out);

}  // namespace apar::cuda
