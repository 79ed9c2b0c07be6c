// Matrix products for any number of rows. Weights stream through shared memory once per 128 rows. They are
// the 16-row operand of mma.m16n8k16, and rows of x are its 8 columns.
#include "ops/cuda/gemm/gemm.h"

#include "ops/cuda/device/overlap.cuh"
#include "ops/cuda/gemm/blocks.cuh"
#include "ops/cuda/gemm/formats.cuh"

namespace apar::cuda {
namespace {

constexpr int kInputBytes = kTileInputs * 2;  // of one row of x in a tile

// How the threads of a block divide a tile of 64 outputs x kRows rows.
template <int kRows>
struct Shape {
  static constexpr int kWarpsOut = kRows == 128 ? 2 : 4;
  static constexpr int kWarpsRow = kRows == 128 ? 2 : 1;
  static constexpr int kThreads = kWarpsOut * kWarpsRow * 32;
  static constexpr int kOutBlocks = kTileOuts / 16 / kWarpsOut;  // of 16 outputs, per warp
  static constexpr int kRowBlocks = kRows / 8 / kWarpsRow;       // of 8 rows, per warp
  static constexpr int kStages = kRows == 128 ? 4 : kRows == 64 ? 5 : 6;
};

// A stage has a tile of weights, what its group shares, and the same inputs of kRows rows of x.
template <class Format>
constexpr int kWeightBytes = Format::kBytes + Format::kGroupBytes;

template <class Format, int kRows>
__device__ inline void load_weights(const TileWork& work, int k_tile, unsigned char* stage) {
  constexpr int kThreads = Shape<kRows>::kThreads;
  const unsigned char* const tile = work.weights + static_cast<int64_t>(k_tile) * Format::kBytes;
  for (int i = threadIdx.x; i < Format::kBytes / kCopyBytes; i += kThreads)
    copy_async(stage + i * kCopyBytes, tile + i * kCopyBytes, true);
  if constexpr (Format::kGroupBytes > 0) {
    const unsigned char* const group = group_of<Format>(work, k_tile);
    for (int i = threadIdx.x; i < Format::kGroupBytes / kCopyBytes; i += kThreads)
      copy_async(stage + Format::kBytes + i * kCopyBytes, group + i * kCopyBytes, true);
  }
}

template <class Format, int kRows>
__device__ inline void load_inputs(const GemmCall& call, int first_row, int k_tile, unsigned char* stage) {
  constexpr int kThreads = Shape<kRows>::kThreads;
  unsigned char* const x_stage = stage + kWeightBytes<Format>;
  for (int i = threadIdx.x; i < kRows * 8; i += kThreads) {
    const int row = i / 8, piece = i % 8, input = k_tile * kTileInputs + piece * 8;
    const bool valid = first_row + row < call.rows && input < call.in;
    const int64_t from = static_cast<int64_t>(first_row + row) * call.in + input;
    copy_async(x_stage + row * kInputBytes + ((piece ^ (row % 8)) << 4), call.x_bf16 + (valid ? from : 0),
               valid);
  }
}

template <int kOutBlocks, int kRowBlocks>
struct Sums {
  float at[kOutBlocks][kRowBlocks][4];

  __device__ void clear() {
    for (auto& block : at)
      for (auto& row : block)
        for (float& value : row) value = 0;
  }
};

// sums += the products of one tile. For formats with scales, each half of the inputs is summed separately and
// then scaled. With the totals of kSequential beside them, the sums of both halves at once would not fit the
// registers.
template <class Format, int kRows, bool kSequential, class TileSums>
__device__ inline void multiply_stage(const unsigned char* stage, TileSums& sums) {
  using S = Shape<kRows>;
  [[maybe_unused]] constexpr int kHalvesAtOnce = Format::kScaled && kSequential ? 1 : 2;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int first_block = warp / S::kWarpsRow * S::kOutBlocks;
  const int first_row = warp % S::kWarpsRow * S::kRowBlocks * 8;
  const unsigned char* const x_stage = stage + kWeightBytes<Format>;
#pragma unroll kHalvesAtOnce
  for (int half = 0; half < 2; ++half) {
    Operand<Format::kTerms> a[S::kOutBlocks];
    float scale[S::kOutBlocks][2];
#pragma unroll
    for (int out = 0; out < S::kOutBlocks; ++out) {
      Format::load(a[out], stage, first_block + out, half, lane);
      if constexpr (Format::kScaled) Format::scales(scale[out], stage, first_block + out, half, lane);
    }
#pragma unroll
    for (int block = 0; block < S::kRowBlocks; ++block) {
      const int row = first_row + block * 8 + lane % 8, piece = half * 4 + lane / 8;
      uint32_t b[4];
      load_matrices(b, x_stage + row * kInputBytes + ((piece ^ (row % 8)) << 4));
#pragma unroll
      for (int out = 0; out < S::kOutBlocks; ++out) {
        float(&sum)[4] = sums.at[out][block];
        if constexpr (Format::kScaled) {
          float group[4] = {};
          multiply_half(group, a[out], b);
#pragma unroll
          for (int i = 0; i < 4; ++i) sum[i] = fmaf(scale[out][i / 2], group[i], sum[i]);
        } else {
          multiply_half(sum, a[out], b);
        }
      }
    }
  }
}

// Calls visit(row, out within the tile, low, high) for every pair of sums of this thread (write_pair()).
template <int kRows, class TileSums, class Visit>
__device__ inline void for_each_pair(const TileSums& sums, Visit visit) {
  using S = Shape<kRows>;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (int out = 0; out < S::kOutBlocks; ++out)
#pragma unroll
    for (int row = 0; row < S::kRowBlocks; ++row)
#pragma unroll
      for (int i = 0; i < 2; ++i)
        visit((warp % S::kWarpsRow * S::kRowBlocks + row) * 8 + lane % 4 * 2 + i,
              (warp / S::kWarpsRow * S::kOutBlocks + out) * 16 + lane / 4, sums.at[out][row][i],
              sums.at[out][row][i + 2]);
}

// A block computes the outputs of one tile for up to kRows rows: either one split, or (kSequential) all
// splits one after the other. If it may begin early (`overlaps`), it requests the weights of all stages
// before it waits.
template <class Format, int kRows, bool kSequential>
__global__ void __launch_bounds__(Shape<kRows>::kThreads)
    gemm_tiles(const __grid_constant__ GemmCall call, int32_t splits, bool overlaps) {
  using S = Shape<kRows>;
  using TileSums = Sums<S::kOutBlocks, S::kRowBlocks>;
  constexpr int kStageBytes = kWeightBytes<Format> + kRows * kInputBytes;
  const int row_tiles = (call.rows + kRows - 1) / kRows;
  const int first_row = static_cast<int>(blockIdx.x) % row_tiles * kRows;
  const int split_of_block = kSequential ? 0 : blockIdx.y;
  const TileWork work =
      tile_work<Format>(call, blockIdx.x / row_tiles, split_of_block, kSequential ? 1 : splits);
  const int begin = work.begin, end = work.end;
  unsigned char* const stages = shared_memory();
  const auto stage_of = [&](int k) { return stages + (k - begin) % S::kStages * kStageBytes; };
  const int first_end = begin + S::kStages - 1 < end ? begin + S::kStages - 1 : end;
  let_next_kernel_begin();
  if (overlaps)
    for (int k = begin; k < first_end; ++k) load_weights<Format, kRows>(work, k, stage_of(k));
  wait_for_earlier_kernels();
  for (int k = begin; k < begin + S::kStages - 1; ++k) {
    if (k < first_end) {
      if (!overlaps) load_weights<Format, kRows>(work, k, stage_of(k));
      load_inputs<Format, kRows>(call, first_row, k, stage_of(k));
    }
    copy_commit();
  }
  TileSums sums, total;
  sums.clear();
  if constexpr (kSequential) total.clear();
  int split = 0, split_end = split_begin(work.k_tiles, 1, splits);
  for (int k = begin; k < end; ++k) {
    copy_wait<S::kStages - 2>();
    __syncthreads();
    const int next = k + S::kStages - 1;
    if (next < end) {
      load_weights<Format, kRows>(work, next, stage_of(next));
      load_inputs<Format, kRows>(call, first_row, next, stage_of(next));
    }
    copy_commit();
    multiply_stage<Format, kRows, kSequential>(stage_of(k), sums);
    if constexpr (kSequential) {
      if (k + 1 < split_end) continue;
#pragma unroll
      for (int out = 0; out < S::kOutBlocks; ++out)
#pragma unroll
        for (int row = 0; row < S::kRowBlocks; ++row)
#pragma unroll
          for (int i = 0; i < 4; ++i)
            total.at[out][row][i] =
                split == 0 ? sums.at[out][row][i] : total.at[out][row][i] + sums.at[out][row][i];
      sums.clear();
      split_end = split_begin(work.k_tiles, ++split + 1, splits);
    }
  }
  copy_wait<0>();

  const auto write = [&](int row, int out, float low, float high) {
    write_pair(call, work, first_row + row, out, low, high);
  };
  if constexpr (kSequential) {
    for_each_pair<kRows>(total, write);
  } else if (splits == 1) {
    for_each_pair<kRows>(sums, write);
  } else {
    for_each_pair<kRows>(sums, [&](int row, int out, float low, float high) {
      store_partial_pair(call, work, split_of_block, first_row + row, out, low, high);
    });
    __syncthreads();  // the stages are no longer needed: their memory is reused for the flag
    if (last_to_arrive(call.arrived + blockIdx.x, splits, reinterpret_cast<int32_t*>(stages)))
      add_splits(call, work, first_row, kRows, splits);
  }
}

template <class Format, int kRows, bool kSequential>
void launch_tiles(Stream stream, const GemmCall& call, const GemmPlan& plan) {
  const auto row_tiles = static_cast<uint32_t>(tiles_of(call.rows, kRows));
  const Grid grid = {static_cast<uint32_t>(call.tiles) * row_tiles,
                     kSequential ? 1 : static_cast<uint32_t>(plan.splits)};
  constexpr size_t kShared = size_t{Shape<kRows>::kStages} * (kWeightBytes<Format> + kRows * kInputBytes);
  launch_overlapping<gemm_tiles<Format, kRows, kSequential>>(stream, grid, Shape<kRows>::kThreads, kShared,
                                                             call, plan.splits, stream.overlaps);
}

template <class Format>
void launch_format(Stream stream, const GemmCall& call, const GemmPlan& plan) {
  switch (plan.tile_rows) {
    case 8:
      return launch_tiles<Format, 8, false>(stream, call, plan);
    case 16:
      return launch_tiles<Format, 16, false>(stream, call, plan);
    case 32:
      return launch_tiles<Format, 32, false>(stream, call, plan);
    case 64:
      return launch_tiles<Format, 64, false>(stream, call, plan);
    default:
      if (plan.sequential) return launch_tiles<Format, 128, true>(stream, call, plan);
      return launch_tiles<Format, 128, false>(stream, call, plan);
  }
}

}  // namespace

void gemm_mma(Stream stream, const GemmCall& call, WeightFormat format, const GemmPlan& plan) {
  with_tiles(format, [&](auto tiles) { launch_format<decltype(tiles)>(stream, call, plan); });
}

}  // namespace apar::cuda
