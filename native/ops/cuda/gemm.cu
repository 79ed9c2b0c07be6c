// Matrix products of few rows: the weights stream through shared memory once, as the 16-row operand of
// mma.m16n8k16; the rows of x are its 8 columns.
#include "ops/cuda/gemm.h"

#include "ops/cuda/gemm_formats.cuh"

namespace apar::cuda {
namespace {

constexpr int kInputBytes = kTileInputs * 2;  // of one row of x in a tile

// How one block's threads share a tile of 64 outputs x kRows rows.
template <int kRows>
struct Shape {
  static constexpr int kWarpsOut = kRows == 128 ? 2 : 4;
  static constexpr int kWarpsRow = kRows == 128 ? 2 : 1;
  static constexpr int kThreads = kWarpsOut * kWarpsRow * 32;
  static constexpr int kOutBlocks = kTileOuts / 16 / kWarpsOut;  // of 16 outputs, per warp
  static constexpr int kRowBlocks = kRows / 8 / kWarpsRow;       // of 8 rows, per warp
  static constexpr int kStages = kRows == 128 ? 4 : kRows == 64 ? 5 : 6;
};

template <class Format, int kRows>
__device__ inline void load_stage(const GemmCall& call, const unsigned char* weights, int first_row,
                                  int k_tile, unsigned char* stage) {
  constexpr int kThreads = Shape<kRows>::kThreads;
  const unsigned char* const tile = weights + static_cast<int64_t>(k_tile) * Format::kBytes;
  for (int i = threadIdx.x; i < Format::kBytes / kCopyBytes; i += kThreads)
    copy_async(stage + i * kCopyBytes, tile + i * kCopyBytes, true);
  unsigned char* const x_stage = stage + Format::kBytes;
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

// sums += one tile's products. With scales, each half of the inputs, a group, is summed apart and scaled as a
// whole.
template <class Format, int kRows, class TileSums>
__device__ inline void multiply_stage(const unsigned char* stage, TileSums& sums) {
  using S = Shape<kRows>;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int first_block = warp / S::kWarpsRow * S::kOutBlocks;
  const int first_row = warp % S::kWarpsRow * S::kRowBlocks * 8;
  const unsigned char* const x_stage = stage + Format::kBytes;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    uint32_t a[S::kOutBlocks][2][4];
    float scale[S::kOutBlocks][2];
#pragma unroll
    for (int out = 0; out < S::kOutBlocks; ++out) {
      Format::load(a[out], stage, first_block + out, half, lane);
      if constexpr (Format::kScaled) {
        const auto* const scales = reinterpret_cast<const float*>(stage + Format::kBytes - kScaleBytes);
        const int first = half * kTileOuts + (first_block + out) * 16 + lane / 4;
        scale[out][0] = scales[first];
        scale[out][1] = scales[first + 8];
      }
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
          mma_bf16(group, a[out][0], b[0], b[1]);
          mma_bf16(group, a[out][1], b[2], b[3]);
#pragma unroll
          for (int i = 0; i < 4; ++i) sum[i] = fmaf(scale[out][i / 2], group[i], sum[i]);
        } else {
          mma_bf16(sum, a[out][0], b[0], b[1]);
          mma_bf16(sum, a[out][1], b[2], b[3]);
        }
      }
    }
  }
}

// Calls visit(row, out within the tile, value) for every sum of this thread.
template <int kRows, class TileSums, class Visit>
__device__ inline void for_each_sum(const TileSums& sums, Visit visit) {
  using S = Shape<kRows>;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (int out = 0; out < S::kOutBlocks; ++out)
#pragma unroll
    for (int row = 0; row < S::kRowBlocks; ++row)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        visit((warp % S::kWarpsRow * S::kRowBlocks + row) * 8 + lane % 4 * 2 + i % 2,
              (warp / S::kWarpsRow * S::kOutBlocks + out) * 16 + lane / 4 + i / 2 * 8, sums.at[out][row][i]);
}

__device__ inline const GemmProjection& projection_of(const GemmCall& call, int tile) {
  int index = 0;
  while (index + 1 < call.num_projections && tile >= call.projections[index + 1].first_tile) ++index;
  return call.projections[index];
}

// True in the block that comes last of those that share `arrived`; then it sees what the others wrote.
__device__ inline bool last_to_arrive(int32_t* arrived, int32_t blocks) {
  auto* const last = reinterpret_cast<int32_t*>(shared_memory());
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    *last = atomicAdd(arrived, 1) == blocks - 1;
    if (*last != 0) *arrived = 0;
  }
  __syncthreads();
  __threadfence();
  return *last != 0;
}

// A block computes the outputs of one tile for up to kRows rows: all parts of the inputs in turn, or one of
// them.
template <class Format, int kRows, bool kInTurn>
__global__ void __launch_bounds__(Shape<kRows>::kThreads)
    gemm_tiles(const __grid_constant__ GemmCall call, int32_t splits) {
  using S = Shape<kRows>;
  using TileSums = Sums<S::kOutBlocks, S::kRowBlocks>;
  constexpr int kStageBytes = Format::kBytes + kRows * kInputBytes;
  const int row_tiles = (call.rows + kRows - 1) / kRows;
  const int first_row = static_cast<int>(blockIdx.x) % row_tiles * kRows, tile = blockIdx.x / row_tiles;
  const int k_tiles = tiles_of(call.in, kTileInputs);
  const int split = blockIdx.y;
  const auto split_begin = [&](int part) {
    return static_cast<int>(static_cast<int64_t>(k_tiles) * part / splits);
  };
  const int begin = kInTurn ? 0 : split_begin(split), end = kInTurn ? k_tiles : split_begin(split + 1);

  const GemmProjection& projection = projection_of(call, tile);
  const int64_t tile_of_layer = tile - projection.first_tile;
  const auto* const weights =
      static_cast<const unsigned char*>(projection.weights) + tile_of_layer * k_tiles * Format::kBytes;
  unsigned char* const stages = shared_memory();
  for (int i = 0; i < S::kStages - 1; ++i) {
    if (begin + i < end)
      load_stage<Format, kRows>(call, weights, first_row, begin + i, stages + i * kStageBytes);
    copy_commit();
  }
  TileSums sums, total;
  sums.clear();
  if constexpr (kInTurn) total.clear();
  int part = 0;
  for (int k = begin; k < end; ++k) {
    copy_wait<S::kStages - 2>();
    __syncthreads();
    const int next = k + S::kStages - 1;
    if (next < end)
      load_stage<Format, kRows>(call, weights, first_row, next,
                                stages + (next - begin) % S::kStages * kStageBytes);
    copy_commit();
    multiply_stage<Format, kRows>(stages + (k - begin) % S::kStages * kStageBytes, sums);
    if constexpr (kInTurn) {
      if (k + 1 < split_begin(part + 1)) continue;
#pragma unroll
      for (int out = 0; out < S::kOutBlocks; ++out)
#pragma unroll
        for (int row = 0; row < S::kRowBlocks; ++row)
#pragma unroll
          for (int i = 0; i < 4; ++i)
            total.at[out][row][i] =
                part == 0 ? sums.at[out][row][i] : total.at[out][row][i] + sums.at[out][row][i];
      sums.clear();
      ++part;
    }
  }
  copy_wait<0>();

  const int first_out = static_cast<int>(tile_of_layer) * kTileOuts;
  const auto write = [&](int row, int out, float value) {
    if (first_row + row < call.rows && first_out + out < projection.outs)
      projection.out[static_cast<int64_t>(first_row + row) * projection.outs + first_out + out] = value;
  };
  if constexpr (kInTurn) {
    for_each_sum<kRows>(total, write);
  } else if (splits == 1) {
    for_each_sum<kRows>(sums, write);
  } else {
    const int64_t width = static_cast<int64_t>(call.tiles) * kTileOuts;
    const auto partial = [&](int of, int row, int out) {
      return call.partials + (static_cast<int64_t>(of) * call.rows + first_row + row) * width +
             tile * kTileOuts + out;
    };
    for_each_sum<kRows>(sums, [&](int row, int out, float value) {
      if (first_row + row < call.rows) *partial(split, row, out) = value;
    });
    __syncthreads();  // the stages are used up: their memory is taken for the flag
    if (!last_to_arrive(call.arrived + blockIdx.x, splits)) return;
    for (int i = threadIdx.x; i < kRows * kTileOuts; i += S::kThreads) {
      const int row = i / kTileOuts, out = i % kTileOuts;
      if (first_row + row >= call.rows) break;
      float sum = __ldcg(partial(0, row, out));  // not from the L1 cache: other multiprocessors wrote it
      for (int of = 1; of < splits; ++of) sum += __ldcg(partial(of, row, out));
      write(row, out, sum);
    }
  }
}

template <class Format, int kRows, bool kInTurn>
void launch_tiles(Stream stream, const GemmCall& call, const GemmPlan& plan) {
  const auto row_tiles = static_cast<uint32_t>(tiles_of(call.rows, kRows));
  const Grid grid = {static_cast<uint32_t>(call.tiles) * row_tiles,
                     kInTurn ? 1 : static_cast<uint32_t>(plan.splits)};
  constexpr size_t kShared = size_t{Shape<kRows>::kStages} * (Format::kBytes + kRows * kInputBytes);
  launch<gemm_tiles<Format, kRows, kInTurn>>(stream, grid, Shape<kRows>::kThreads, kShared, call,
                                             plan.splits);
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
      if (plan.in_turn) return launch_tiles<Format, 128, true>(stream, call, plan);
      return launch_tiles<Format, 128, false>(stream, call, plan);
  }
}

__device__ inline float widen(float value) {
  return value;
}
__device__ inline float widen(uint16_t bits) {
  return bf16_float(bits);
}

constexpr int kPlainThreads = 128;
constexpr int kPlainRows = 4;

// A warp computes one output for four rows; each lane sums every 32nd input.
template <class Element>
__global__ void __launch_bounds__(kPlainThreads)
    plain_outputs(const __grid_constant__ GemmProjection layer, const __grid_constant__ GemmCall call) {
  const int out = blockIdx.x * (kPlainThreads / 32) + threadIdx.x / 32, first_row = blockIdx.y * kPlainRows;
  if (out >= layer.outs) return;
  const auto* const weights =
      static_cast<const Element*>(layer.weights) + static_cast<int64_t>(out) * call.in;
  float sums[kPlainRows] = {};
  for (int k = threadIdx.x % 32; k < call.in; k += 32) {
    const float weight = widen(weights[k]);
#pragma unroll
    for (int row = 0; row < kPlainRows; ++row)
      if (first_row + row < call.rows)
        sums[row] = fmaf(weight, call.x[static_cast<int64_t>(first_row + row) * call.in + k], sums[row]);
  }
#pragma unroll
  for (int row = 0; row < kPlainRows; ++row) {
    const float sum = warp_sum(sums[row]);
    if (threadIdx.x % 32 == 0 && first_row + row < call.rows)
      layer.out[static_cast<int64_t>(first_row + row) * layer.outs + out] = sum;
  }
}

}  // namespace

void packed_gemm(Stream stream, const GemmCall& call, WeightFormat format, const GemmPlan& plan) {
  if (format == WeightFormat::int8) return launch_format<Int8Tiles>(stream, call, plan);
  if (format == WeightFormat::int4) return launch_format<Int4Tiles>(stream, call, plan);
  launch_format<Bf16Tiles>(stream, call, plan);
}

void plain_gemm(Stream stream, const GemmCall& call, DType weights) {
  for (int32_t i = 0; i < call.num_projections; ++i) {
    const GemmProjection& layer = call.projections[i];
    const Grid grid = {static_cast<uint32_t>(tiles_of(layer.outs, kPlainThreads / 32)),
                       static_cast<uint32_t>(tiles_of(call.rows, kPlainRows))};
    if (weights == DType::f32)
      launch<plain_outputs<float>>(stream, grid, kPlainThreads, 0, layer, call);
    else
      launch<plain_outputs<uint16_t>>(stream, grid, kPlainThreads, 0, layer, call);
  }
}

}  // namespace apar::cuda
