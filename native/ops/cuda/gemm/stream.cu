// Matrix products of at most kMaxStreamRows rows, whose time is the time to read the weights. Each warp loads
// weights from memory straight into registers, several tiles ahead, without shared memory and without
// barriers. The sums are those of the mma kernel, instruction by instruction, so a row's bits do not depend
// on the number of rows.
#include "ops/cuda/device/overlap.cuh"
#include "ops/cuda/gemm/blocks.cuh"
#include "ops/cuda/gemm/formats.cuh"
#include "ops/cuda/gemm/gemm.h"

namespace apar::cuda {
namespace {

constexpr int kThreads = kTileOuts / 16 * 32;  // a warp per 16 outputs
constexpr int kXTilesAhead = 2;                // tiles of x that are loaded ahead; x comes from the caches

// Tiles of weights that are loaded ahead. An H200 needs 4.3 TB/s * 0.8 us / 132 = 26 KB per multiprocessor in
// flight. About ten warps run on one, and half of their loads have arrived at any time.
template <class Format>
constexpr int kWeightTilesAhead = Format::kWords == 4 ? 4 : 8;

template <class Format>
struct Weights {
  uint4 words[Format::kWords];
  float scale;  // of output lane % 16, for the 32 inputs from 32 * (lane / 16) on

  __device__ void fetch(const TileWork& work, int k, int block, int lane) {
    const unsigned char* const tile = work.weights + static_cast<int64_t>(k) * Format::kBytes;
#pragma unroll
    for (int i = 0; i < Format::kWords; ++i) words[i] = Format::words_of(tile, block, i, lane);
    if constexpr (Format::kScaled)
      scale = *reinterpret_cast<const float*>(tile + Format::kBytes - kScaleBytes +
                                              (lane / 16 * kTileOuts + block * 16 + lane % 16) *
                                                  static_cast<int>(sizeof(float)));
  }
  __device__ void unpack(Operand<Format::kTerms>& a, int half) const {
    Format::unpack(a, words, half);
  }
  // Of outputs lane / 4 and lane / 4 + 8.
  __device__ void scales(float (&of)[2], int half, int lane) const {
    for (int i = 0; i < 2; ++i) of[i] = __shfl_sync(kFullWarp, scale, half * 16 + lane / 4 + 8 * i);
  }
};

template <>
struct Weights<Int4G128Tiles> {
  uint4 words[Int4G128Tiles::kWords];
  Int4G128Tiles::Shared shared;

  __device__ void fetch(const TileWork& work, int k, int block, int lane) {
    const unsigned char* const tile = work.weights + static_cast<int64_t>(k) * Int4G128Tiles::kBytes;
    words[0] = Int4G128Tiles::words_of(tile, block, 0, lane);
    shared.fetch(group_of<Int4G128Tiles>(work, k), block, lane);
  }
  __device__ void unpack(Operand<Int4G128Tiles::kTerms>& a, int half) const {
    Int4G128Tiles::Middle middle;
    shared.get(middle);
    Int4G128Tiles::unpack(a, words, half, middle);
  }
  __device__ void scales(float (&of)[2], int /*half*/, int /*lane*/) const { shared.get(of); }
};

// Of row lane / 4 of x: the pieces of 8 inputs lane % 4 and lane % 4 + 4.
struct Inputs {
  uint4 pieces[2];

  __device__ void fetch(const GemmCall& call, int k_tile, int lane) {
    const int row = lane / 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int input = k_tile * kTileInputs + half * 32 + lane % 4 * 8;
      pieces[half] = {0, 0, 0, 0};
      if (row < call.rows && input < call.in)
        pieces[half] =
            *reinterpret_cast<const uint4*>(call.x_bf16 + static_cast<int64_t>(row) * call.in + input);
    }
  }
};

template <class Format>
__device__ inline void multiply(float (&sums)[4], const Weights<Format>& weights, const Inputs& x, int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    Operand<Format::kTerms> a;
    uint32_t b[4];
    weights.unpack(a, half);
    transpose_quad(b, x.pieces[half]);
    if constexpr (Format::kScaled) {
      float group[4] = {}, scale[2];
      multiply_half(group, a, b);
      weights.scales(scale, half, lane);
      for (int i = 0; i < 4; ++i) sums[i] = fmaf(scale[i / 2], group[i], sums[i]);
    } else {
      multiply_half(sums, a, b);
    }
  }
}

template <class Format>
__global__ void __launch_bounds__(kThreads, 3)
    stream_tiles(const __grid_constant__ GemmCall call, int32_t splits) {
  constexpr int kTiles = kWeightTilesAhead<Format>;
  static_assert(kTiles % kXTilesAhead == 0);
  let_next_kernel_begin();
  const int lane = threadIdx.x % 32, block = threadIdx.x / 32, split = blockIdx.y;
  const TileWork work = tile_work<Format>(call, blockIdx.x, split, splits);
  Weights<Format> weights[kTiles];
  Inputs x[kXTilesAhead];
#pragma unroll
  for (int i = 0; i < kTiles; ++i)
    if (work.begin + i < work.end) weights[i].fetch(work, work.begin + i, block, lane);
  wait_for_earlier_kernels();  // weights are loaded meanwhile
#pragma unroll
  for (int i = 0; i < kXTilesAhead; ++i) x[i].fetch(call, work.begin + i, lane);

  float sums[4] = {};
  for (int first = work.begin; first < work.end; first += kTiles) {
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      const int k = first + i;
      if (k >= work.end) break;
      multiply(sums, weights[i], x[i % kXTilesAhead], lane);
      if (k + kTiles < work.end) weights[i].fetch(work, k + kTiles, block, lane);
      x[i % kXTilesAhead].fetch(call, k + kXTilesAhead, lane);
    }
  }

  for (int i = 0; i < 2; ++i) {
    const int row = lane % 4 * 2 + i, out = block * 16 + lane / 4;
    if (splits == 1)
      write_pair(call, work, row, out, sums[i], sums[i + 2]);
    else
      store_partial_pair(call, work, split, row, out, sums[i], sums[i + 2]);
  }
  if (splits > 1 &&
      last_to_arrive(call.arrived + blockIdx.x, splits, reinterpret_cast<int32_t*>(shared_memory())))
    add_splits(call, work, 0, call.rows, splits);
}

template <class Format>
void launch_stream(Stream stream, const GemmCall& call, const GemmPlan& plan) {
  const Grid grid = {static_cast<uint32_t>(call.tiles), static_cast<uint32_t>(plan.splits)};
  launch_overlapping<stream_tiles<Format>>(stream, grid, kThreads, sizeof(int32_t), call, plan.splits);
}

}  // namespace

void gemm_stream(Stream stream, const GemmCall& call, WeightFormat format, const GemmPlan& plan) {
  with_tiles(format, [&](auto tiles) { launch_stream<decltype(tiles)>(stream, call, plan); });
}

}  // namespace apar::cuda
