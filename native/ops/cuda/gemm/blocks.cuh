#pragma once

// The work of one block of threads of a packed product, and where its sums are written. Common to all packed
// kernels.

#include "ops/cuda/device/intrinsics.cuh"
#include "ops/cuda/device/swiglu.cuh"
#include "ops/cuda/gemm/gemm.h"
#include "ops/cuda/gemm/weight_tiles.h"

namespace apar::cuda {

// One tile of outputs, and the tiles of inputs [begin, end) of one split, or of all splits.
struct TileWork {
  GemmProjection projection;
  int32_t tile = 0;       // index of the output tile in the call
  int32_t first_out = 0;  // the tile's first output in the projection, or in both layers of a gated pair
  int32_t k_tiles = 0;    // tiles of inputs in a row of tiles
  int32_t begin = 0, end = 0;
  const unsigned char* weights = nullptr;  // the row's first tile
  const float* scales = nullptr;           // of the tile's outputs, or null if the sums are not scaled
  const unsigned char* groups = nullptr;   // what groups of 128 inputs share, if the format has such groups
};

// What the inputs of tile k_tile share.
template <class Format>
__device__ inline const unsigned char* group_of(const TileWork& work, int32_t k_tile) {
  return work.groups + static_cast<int64_t>(k_tile / kTilesPerLongGroup) * Format::kGroupBytes;
}

// The first tile of inputs of split `split` of `splits`.
__device__ inline int32_t split_begin(int32_t k_tiles, int32_t split, int32_t splits) {
  return k_tiles * split / splits;
}

template <class Format>
__device__ inline TileWork tile_work(const GemmCall& call, int32_t tile, int32_t split, int32_t splits) {
  int index = 0;
  while (index + 1 < call.num_projections && tile >= call.projections[index + 1].first_tile) ++index;
  TileWork work;
  work.projection = call.projections[index];
  work.tile = tile;
  const int32_t tile_of_layer = tile - work.projection.first_tile;
  work.first_out = call.gated.bf16 == nullptr ? tile_of_layer * kTileOuts : tile_of_layer * (kTileOuts / 2);
  work.k_tiles = tiles_of(call.in, kTileInputs);
  work.begin = split_begin(work.k_tiles, split, splits);
  work.end = split_begin(work.k_tiles, split + 1, splits);
  const int64_t tiles_bytes = static_cast<int64_t>(work.k_tiles) * Format::kBytes;
  work.weights = static_cast<const unsigned char*>(work.projection.weights) +
                 tile_of_layer * static_cast<int64_t>(tile_row_bytes(call.in, Format::kFormat));
  if constexpr (row_scale_bytes(Format::kFormat) > 0)
    work.scales = reinterpret_cast<const float*>(work.weights + tiles_bytes);
  if constexpr (Format::kGroupBytes > 0) work.groups = work.weights + tiles_bytes;
  return work;
}

// The complete sum of output `out` of the tile, which is output `column` of the layer, with its bias.
__device__ inline float finished(const TileWork& work, int32_t out, int32_t column, const float* bias,
                                 float sum) {
  if (work.scales != nullptr) sum *= work.scales[out];
  return bias == nullptr ? sum : __fadd_rn(sum, bias[column]);
}

// Writes the complete sum of row `row` of the call and output `out` of the tile, with its bias, unless one of
// them is padding.
__device__ inline void write_sum(const GemmCall& call, const TileWork& work, int32_t row, int32_t out,
                                 float value) {
  const GemmProjection& projection = work.projection;
  const int32_t column = work.first_out + out;
  if (row >= call.rows || column >= projection.outs) return;
  projection.out[static_cast<int64_t>(row) * projection.outs + column] =
      finished(work, out, column, projection.bias, value);
}

// The same for the outputs `out` of gate and `out` + 8 of up in a gated pair: writes silu(gate) * up.
__device__ inline void write_gated(const GemmCall& call, const TileWork& work, int32_t row, int32_t out,
                                   float gate, float up) {
  const GemmProjection& pair = work.projection;
  const int32_t column = work.first_out + out / (2 * kPairOuts) * kPairOuts + out % kPairOuts;
  if (row >= call.rows || column >= pair.outs) return;
  const float value = swiglu_of(finished(work, out, column, pair.bias, gate),
                                finished(work, out + kPairOuts, column, call.gated.up_bias, up));
  const int64_t at = static_cast<int64_t>(row) * pair.outs + column;
  call.gated.bf16[at] = bf16_bits(value);
  if (pair.out != nullptr) pair.out[at] = value;
}

// Writes the complete sums of row `row` of two outputs of the tile: `low` of output `out` and `high` of
// output `out` + 8, where out % 16 < 8. A thread that holds one of them in an mma fragment holds the other,
// too (device/intrinsics.cuh).
__device__ inline void write_pair(const GemmCall& call, const TileWork& work, int32_t row, int32_t out,
                                  float low, float high) {
  if (call.gated.bf16 == nullptr) {
    write_sum(call, work, row, out, low);
    write_sum(call, work, row, out + kPairOuts, high);
  } else {
    write_gated(call, work, row, out, low, high);
  }
}

// Where the partial sum of split `split` is stored.
__device__ inline float* partial_sum(const GemmCall& call, const TileWork& work, int32_t split, int32_t row,
                                     int32_t out) {
  const int64_t width = static_cast<int64_t>(call.tiles) * kTileOuts;
  return call.partials + (static_cast<int64_t>(split) * call.rows + row) * width +
         static_cast<int64_t>(work.tile) * kTileOuts + out;
}

// Stores the partial sums of a pair, as write_pair() writes complete ones.
__device__ inline void store_partial_pair(const GemmCall& call, const TileWork& work, int32_t split,
                                          int32_t row, int32_t out, float low, float high) {
  if (row >= call.rows) return;
  *partial_sum(call, work, split, row, out) = low;
  *partial_sum(call, work, split, row, out + kPairOuts) = high;
}

// Returns true in the last group of threads to arrive among the `groups` that share the counter `arrived`.
// That group then sees the writes of the others. `flag` is shared memory of the group, sync() its barrier,
// and one of its threads leads.
template <class Sync>
__device__ inline bool last_to_arrive(int32_t* arrived, int32_t groups, int32_t* flag, bool leads,
                                      Sync sync) {
  __threadfence();
  sync();
  if (leads) {
    *flag = atomicAdd(arrived, 1) == groups - 1;
    if (*flag != 0) *arrived = 0;
  }
  sync();
  __threadfence();
  return *flag != 0;
}
// The same for whole blocks.
__device__ inline bool last_to_arrive(int32_t* arrived, int32_t blocks, int32_t* flag) {
  return last_to_arrive(arrived, blocks, flag, threadIdx.x == 0, [] { __syncthreads(); });
}

// Adds the partial sums of the rows [first_row, first_row + rows) in the order of splits, after all are
// written. Executed by `threads` threads, `thread` is each one's index: by a whole block unless told
// otherwise.
__device__ inline void add_splits(const GemmCall& call, const TileWork& work, int32_t first_row, int32_t rows,
                                  int32_t splits, int32_t thread = threadIdx.x,
                                  int32_t threads = blockDim.x) {
  constexpr int32_t kPairs = kTileOuts / 2;
  for (int32_t i = thread; i < rows * kPairs; i += threads) {
    const int32_t row = first_row + i / kPairs, pair = i % kPairs;
    if (row >= call.rows) break;
    const int32_t out = pair / kPairOuts * (2 * kPairOuts) + pair % kPairOuts;
    float low = 0, high = 0;
    for (int32_t split = 0; split < splits; ++split) {
      const float* const partial = partial_sum(call, work, split, row, out);
      // Bypasses L1: other blocks wrote them.
      const float next_low = __ldcg(partial), next_high = __ldcg(partial + kPairOuts);
      low = split == 0 ? next_low : low + next_low;
      high = split == 0 ? next_high : high + next_high;
    }
    write_pair(call, work, row, out, low, high);
  }
}

}  // namespace apar::cuda
