#pragma once

// What a block of threads of a packed product has to do, and where its sums go: common to all kernels.

#include "ops/cuda/device/platform.h"
#include "ops/cuda/gemm/gemm.h"

namespace apar::cuda {

// One tile of outputs and the tiles of inputs [begin, end) of one part of the sums, or of all of them.
struct TileWork {
  GemmProjection projection;
  int32_t tile = 0;       // of the call
  int32_t first_out = 0;  // of the projection
  int32_t k_tiles = 0;    // of a whole row of tiles
  int32_t begin = 0, end = 0;
  const unsigned char* weights = nullptr;  // the row's first tile
  const float* scales = nullptr;           // of the tile's outputs, if the sums are to be scaled
};

// Where part `part` of `splits` begins, in tiles of inputs.
__device__ inline int32_t part_begin(int32_t k_tiles, int32_t part, int32_t splits) {
  return k_tiles * part / splits;
}

template <class Format>
__device__ inline TileWork tile_work(const GemmCall& call, int32_t tile, int32_t part, int32_t splits) {
  int index = 0;
  while (index + 1 < call.num_projections && tile >= call.projections[index + 1].first_tile) ++index;
  TileWork work;
  work.projection = call.projections[index];
  work.tile = tile;
  const int32_t tile_of_layer = tile - work.projection.first_tile;
  work.first_out = tile_of_layer * kTileOuts;
  work.k_tiles = tiles_of(call.in, kTileInputs);
  work.begin = part_begin(work.k_tiles, part, splits);
  work.end = part_begin(work.k_tiles, part + 1, splits);
  const int64_t tiles_bytes = static_cast<int64_t>(work.k_tiles) * Format::kBytes;
  work.weights = static_cast<const unsigned char*>(work.projection.weights) +
                 tile_of_layer * (tiles_bytes + Format::kRowScaleBytes);
  if constexpr (Format::kRowScaleBytes > 0)
    work.scales = reinterpret_cast<const float*>(work.weights + tiles_bytes);
  return work;
}

// Row `row` of the call, output `out` of the tile; either may be padding. `value` is the whole sum.
__device__ inline void write_sum(const GemmCall& call, const TileWork& work, int32_t row, int32_t out,
                                 float value) {
  const GemmProjection& projection = work.projection;
  if (work.scales != nullptr) value *= work.scales[out];
  if (row < call.rows && work.first_out + out < projection.outs)
    projection.out[static_cast<int64_t>(row) * projection.outs + work.first_out + out] = value;
}

// Part `part` of a sum of several.
__device__ inline float* partial_sum(const GemmCall& call, const TileWork& work, int32_t part, int32_t row,
                                     int32_t out) {
  const int64_t width = static_cast<int64_t>(call.tiles) * kTileOuts;
  return call.partials + (static_cast<int64_t>(part) * call.rows + row) * width +
         static_cast<int64_t>(work.tile) * kTileOuts + out;
}

// True in the block that comes last of those that share `arrived`; then it sees what the others wrote. `flag`
// is shared memory.
__device__ inline bool last_to_arrive(int32_t* arrived, int32_t blocks, int32_t* flag) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    *flag = atomicAdd(arrived, 1) == blocks - 1;
    if (*flag != 0) *arrived = 0;
  }
  __syncthreads();
  __threadfence();
  return *flag != 0;
}

// Adds the parts of the rows [first_row, first_row + rows) in order, once all are written; by a whole block.
__device__ inline void add_parts(const GemmCall& call, const TileWork& work, int32_t first_row, int32_t rows,
                                 int32_t splits) {
  for (int32_t i = threadIdx.x; i < rows * kTileOuts; i += blockDim.x) {
    const int32_t row = first_row + i / kTileOuts, out = i % kTileOuts;
    if (row >= call.rows) break;
    float sum = __ldcg(partial_sum(call, work, 0, row, out));  // not from the L1 cache: others wrote it
    for (int32_t part = 1; part < splits; ++part) sum += __ldcg(partial_sum(call, work, part, row, out));
    write_sum(call, work, row, out, sum);
  }
}

}  // namespace apar::cuda
