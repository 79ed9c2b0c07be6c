// Matrix products on Hopper. One warp issues bulk copies of the tiles of weights and of x. Two warpgroups
// multiply the tiles that have arrived, each 64 outputs by kRows rows. wgmma reads bf16 weights from shared
// memory in their packed layout; other formats are converted to bf16 in registers.
#include <type_traits>

#include "ops/cuda/device/hopper.cuh"
#include "ops/cuda/device/overlap.cuh"
#include "ops/cuda/gemm/blocks.cuh"
#include "ops/cuda/gemm/formats.cuh"
#include "ops/cuda/gemm/gemm.h"

namespace apar::cuda {
namespace {

constexpr int kWarpgroups = kWgmmaTiles, kWarpgroupThreads = 128;
constexpr int kConsumers = kWarpgroups * kWarpgroupThreads / 32;  // warps
constexpr int kThreads = kConsumers * 32 + 32;
constexpr int kSharedBytes = 200 * 1024;  // of the 227 KB that a block may have
constexpr int kMaxStages = 8;

// Whether wgmma can read the packed weights directly from shared memory.
template <class Format>
constexpr bool kFromShared = std::is_same_v<Format, Bf16Tiles>;

// The stages in shared memory, each with kRows rows of x and then a tile of weights per warpgroup, and their
// barriers.
template <class Format, int kRows>
struct Stages {
  static constexpr int kInputBytes = kRows * kSwizzleRowBytes;
  static constexpr int kWeightBytes = Format::kBytes + Format::kGroupBytes;  // of a warpgroup
  static constexpr int kBytes = (kInputBytes + kWarpgroups * kWeightBytes + kSwizzleGroupBytes - 1) /
                                kSwizzleGroupBytes * kSwizzleGroupBytes;
  static constexpr int kCount = kSharedBytes / kBytes < kMaxStages ? kSharedBytes / kBytes : kMaxStages;
  static constexpr size_t kShared = size_t{kCount} * (kBytes + 2 * sizeof(uint64_t));

  unsigned char* memory = shared_memory();
  uint64_t* full = reinterpret_cast<uint64_t*>(memory + kCount * kBytes);  // [kCount]
  uint64_t* empty = full + kCount;

  __device__ unsigned char* inputs(int i) const { return memory + i % kCount * kBytes; }
  __device__ unsigned char* weights(int i, int warpgroup) const {
    return inputs(i) + kInputBytes + warpgroup * kWeightBytes;
  }
  __device__ void init() const {
    for (int i = 0; i < kCount; ++i) {
      barrier_init(full + i, 1);
      barrier_init(empty + i, kConsumers);
    }
    fence_async();
  }
  // Wait until stage i has been filled, or until it may be filled. i counts all stages of the block from the
  // beginning.
  __device__ void wait_full(int i) const { barrier_wait(full + i % kCount, i / kCount % 2); }
  __device__ void wait_empty(int i) const { barrier_wait(empty + i % kCount, (i / kCount + 1) % 2); }
};

#if APAR_HOPPER

// Issues the copies of all stages. Executed by one thread. Those of the weights of the first `ahead` stages
// are issued before it waits for earlier kernels.
template <class Format, int kRows>
__device__ inline void fill_stages(const Stages<Format, kRows>& stages, const TensorMap& x,
                                   const TileWork (&work)[kWarpgroups], int tiles, int begin, int end,
                                   int first_row, int ahead) {
  const auto copy_weights = [&](int i) {
    uint64_t* const full = stages.full + i % stages.kCount;
    barrier_arrive_expect(full, stages.kInputBytes + tiles * stages.kWeightBytes);
#pragma unroll
    for (int tile = 0; tile < kWarpgroups; ++tile) {
      if (tile >= tiles) break;
      const int k = begin + i;
      unsigned char* const to = stages.weights(i, tile);
      bulk_copy(to, work[tile].weights + static_cast<int64_t>(k) * Format::kBytes, Format::kBytes, full);
      if constexpr (Format::kGroupBytes > 0)
        bulk_copy(to + Format::kBytes, group_of<Format>(work[tile], k), Format::kGroupBytes, full);
    }
  };
  for (int i = 0; i < ahead; ++i) copy_weights(i);
  wait_for_earlier_kernels();
  for (int i = 0; begin + i < end; ++i) {
    if (i >= ahead) {
      stages.wait_empty(i);
      copy_weights(i);
    }
    box_copy(stages.inputs(i), x, (begin + i) * kTileInputs, first_row, stages.full + i % stages.kCount);
  }
}

// sums += the products of one tile. Executed by a warpgroup.
template <class Format, int kRows>
__device__ inline void multiply_tile(float (&sums)[kRows / 2], const unsigned char* weights,
                                     const unsigned char* inputs) {
  const uint32_t x = shared_address(inputs);
  if constexpr (kFromShared<Format>) {
    const uint32_t w = shared_address(weights);
    pin(sums);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kTileInputs / 16; ++step)
      wgmma<kRows>(sums, matrix_descriptor(w, step), matrix_descriptor(x, step));
    wgmma_finish();
    pin(sums);
  } else {
    const int lane = threadIdx.x % 32, block = threadIdx.x / 32 % 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      Operand<Format::kTerms> a;
      Format::load(a, weights, block, half, lane);
      const auto add_products = [&](float(&to)[kRows / 2]) {
        pin(to);
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < 2; ++step)
#pragma unroll
          for (int term = 0; term < Format::kTerms; ++term)
            wgmma<kRows>(to, a[term][step], matrix_descriptor(x, half * 2 + step));
        wgmma_finish();
        pin(to);
      };
      if constexpr (Format::kScaled) {
        float group[kRows / 2] = {};
        add_products(group);
        float scale[2];
        Format::scales(scale, weights, block, half, lane);
#pragma unroll
        for (int i = 0; i < kRows / 2; ++i) sums[i] = fmaf(scale[i / 2 % 2], group[i], sums[i]);
      } else {
        add_products(sums);
      }
    }
  }
}

#endif

// A block computes two tiles of outputs for kRows rows: either one split, or (sequential) all splits one
// after the other.
template <class Format, int kRows>
__global__ void __launch_bounds__(kThreads, 1)
    wgmma_tiles(const __grid_constant__ GemmCall call, const __grid_constant__ TensorMap x, int32_t splits,
                bool sequential, bool overlaps) {
#if APAR_HOPPER
  const Stages<Format, kRows> stages;
  const int row_tiles = (call.rows + kRows - 1) / kRows;
  const int first_row = static_cast<int>(blockIdx.x) % row_tiles * kRows;
  const int first_tile = static_cast<int>(blockIdx.x) / row_tiles * kWarpgroups;
  const int tiles = call.tiles - first_tile < kWarpgroups ? call.tiles - first_tile : kWarpgroups;
  const int blocks_per_sum = sequential ? 1 : splits;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const auto work_of = [&](int tile) {
    return tile_work<Format>(call, first_tile + (tile < tiles ? tile : 0), blockIdx.y, blocks_per_sum);
  };
  const TileWork work = work_of(warp / 4);
  const int begin = work.begin, end = work.end;
  let_next_kernel_begin();
  if (threadIdx.x == 0) stages.init();
  __syncthreads();

  if (warp == kConsumers) {
    if (lane == 0) {
      const int ahead = !overlaps ? 0 : end - begin < stages.kCount ? end - begin : stages.kCount;
      fill_stages(stages, x, {work_of(0), work_of(1)}, tiles, begin, end, first_row, ahead);
    } else {
      wait_for_earlier_kernels();
    }
    __syncwarp();
  } else {
    wait_for_earlier_kernels();
    const int warpgroup = warp / 4;
    const bool has_tile = warpgroup < tiles;
    float sums[kRows / 2] = {}, total[kRows / 2];
    int split = sequential ? 0 : blockIdx.y, split_end = split_begin(work.k_tiles, split + 1, splits);
    for (int k = begin; k < end; ++k) {
      const int i = k - begin;
      stages.wait_full(i);
      if (has_tile) multiply_tile<Format, kRows>(sums, stages.weights(i, warpgroup), stages.inputs(i));
      __syncwarp();
      if (lane == 0) barrier_arrive(stages.empty + i % stages.kCount);
      if (k + 1 < split_end) continue;
      const bool first = !sequential || split == 0;
#pragma unroll
      for (int j = 0; j < kRows / 2; ++j) {
        total[j] = first ? sums[j] : total[j] + sums[j];
        sums[j] = 0;
      }
      split_end = split_begin(work.k_tiles, ++split + 1, splits);
    }
#pragma unroll
    for (int j = 0; j < kRows / 4; ++j) {
      if (!has_tile) break;
      const int row = first_row + j / 2 * 8 + lane % 4 * 2 + j % 2, out = warp % 4 * 16 + lane / 4;
      const float low = total[j / 2 * 4 + j % 2], high = total[j / 2 * 4 + j % 2 + 2];
      if (blocks_per_sum == 1)
        write_pair(call, work, row, out, low, high);
      else
        store_partial_pair(call, work, blockIdx.y, row, out, low, high);
    }
  }
  if (blocks_per_sum == 1) return;
  __syncthreads();  // the stages are no longer needed: their memory is reused for the flag
  if (!last_to_arrive(call.arrived + blockIdx.x, blocks_per_sum, reinterpret_cast<int32_t*>(shared_memory())))
    return;
  for (int i = 0; i < tiles; ++i) add_splits(call, work_of(i), first_row, kRows, blocks_per_sum);
#else
  __trap();  // this build has no code for sm_90a: an error is better than outputs that were never written
#endif
}

template <class Format, int kRows>
void launch_tiles(Stream stream, const GemmCall& call, const GemmPlan& plan) {
  const auto pairs = static_cast<uint32_t>(tiles_of(call.tiles, kWarpgroups));
  const Grid grid = {pairs * static_cast<uint32_t>(tiles_of(call.rows, kRows)),
                     plan.sequential ? 1 : static_cast<uint32_t>(plan.splits)};
  launch_overlapping<wgmma_tiles<Format, kRows>>(stream, grid, kThreads, Stages<Format, kRows>::kShared, call,
                                                 make_tensor_map(call.x_bf16, call.rows, call.in, kRows),
                                                 plan.splits, plan.sequential, stream.overlaps);
}

template <class Format>
void launch_format(Stream stream, const GemmCall& call, const GemmPlan& plan) {
  if (plan.tile_rows <= 32) return launch_tiles<Format, 32>(stream, call, plan);
  if (!kFromShared<Format> || plan.tile_rows <= 64) return launch_tiles<Format, 64>(stream, call, plan);
  if constexpr (kFromShared<Format>) launch_tiles<Format, 128>(stream, call, plan);
}

}  // namespace

void gemm_wgmma(Stream stream, const GemmCall& call, WeightFormat format, const GemmPlan& plan) {
  with_tiles(format, [&](auto tiles) { launch_format<decltype(tiles)>(stream, call, plan); });
}

}  // namespace apar::cuda
