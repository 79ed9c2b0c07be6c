// Matrix products on Hopper. As many blocks as the device has multiprocessors take work items one after the
// other, each two tiles of outputs by kRows rows. One warp issues bulk copies of the tiles of weights and of
// x, and runs ahead into the next item while the last one is written. Two warpgroups multiply the tiles that
// have arrived, each 64 outputs by kRows rows. wgmma reads bf16 weights from shared memory in their packed
// layout; other formats are converted to bf16 in registers.
#include <string>

#include "common/error.h"
#include "ops/cuda/device/hopper.cuh"
#include "ops/cuda/device/overlap.cuh"
#include "ops/cuda/gemm/blocks.cuh"
#include "ops/cuda/gemm/formats.cuh"
#include "ops/cuda/gemm/gemm.h"
#include "ops/cuda/gemm/wgmma_products.cuh"

namespace apar::cuda {
namespace {

constexpr int kWarpgroups = kWgmmaTiles, kWarpgroupThreads = 128;  // that multiply
constexpr int kConsumers = kWarpgroups * kWarpgroupThreads / 32;   // warps
constexpr int kSharedBytes = 200 * 1024;                           // of the 227 KB that a block may have
constexpr int kMaxStages = 8;

// Where the sums of a thread do not fit the registers that every thread gets at the start (168, because a
// quarter of a multiprocessor has three warps), the warps that copy give theirs to those that multiply.
// setmaxnreg applies to whole warpgroups.
template <class Format, int kRows>
constexpr bool kMovesRegisters = kFromShared<Format> ? kRows == kMaxSequentialWgmmaRows
                                                     : kRows == 128 || (Format::kScaled && kRows == 64);
template <class Format, int kRows>
constexpr int kThreads = kConsumers * 32 + (kMovesRegisters<Format, kRows> ? kWarpgroupThreads : 32);

// The stages in shared memory, each with kRows rows of x and then a tile of weights per warpgroup, and their
// barriers.
template <class Format, int kRows>
struct Stages {
  static constexpr int kInputBytes = kRows * kSwizzleRowBytes;
  static constexpr int kWeightBytes = Format::kBytes + Format::kGroupBytes;  // of a warpgroup
  static constexpr int kBytes = (kInputBytes + kWarpgroups * kWeightBytes + kSwizzleGroupBytes - 1) /
                                kSwizzleGroupBytes * kSwizzleGroupBytes;
  static constexpr int kCount = kSharedBytes / kBytes < kMaxStages ? kSharedBytes / kBytes : kMaxStages;
  static constexpr size_t kShared =
      size_t{kCount} * (kBytes + 2 * sizeof(uint64_t)) + kWarpgroups * sizeof(int32_t);

  unsigned char* memory = shared_memory();
  uint64_t* full = reinterpret_cast<uint64_t*>(memory + kCount * kBytes);  // [kCount]
  uint64_t* empty = full + kCount;
  int32_t* flags = reinterpret_cast<int32_t*>(empty + kCount);  // [kWarpgroups], for last_to_arrive()

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
  // Executed by a warp that multiplies, when nothing of it reads stage i any more.
  __device__ void release(int i) const {
    __syncwarp();
    if (threadIdx.x % 32 == 0) barrier_arrive(empty + i % kCount);
  }
};

#if APAR_HOPPER

constexpr int kCopyRegisters = 56, kMultiplyRegisters = 224;  // of the 168 on average
static_assert(kWarpgroups * kMultiplyRegisters + kCopyRegisters <= (kWarpgroups + 1) * 168);  // else it hangs

// One pair of output tiles for one tile of rows, and either one of its splits or all of them.
struct Item {
  int32_t first_tile, tiles;
  int32_t row_tile;
  int32_t first_split, split_end;
};

// The items of a call. Their order is fixed, and block b of n takes the items b, b + n, b + 2n, ... So the
// blocks of a device work on adjacent items at the same time: the row tiles of a weight tile are adjacent,
// and its weights come from memory once and from L2 for the others; then follow the splits of a sum, whose
// partial sums are added soon after they were written.
struct Items {
  int32_t row_tiles, splits;
  int32_t splits_of_item;  // 1 or splits
  int32_t output_tiles;
  int32_t count;

  __device__ Items(const GemmCall& call, int rows, int32_t splits, bool sequential)
      : row_tiles(tiles_of(call.rows, rows)),
        splits(splits),
        splits_of_item(sequential ? splits : 1),
        output_tiles(call.tiles),
        count(tiles_of(call.tiles, kWarpgroups) * row_tiles * (splits / splits_of_item)) {}

  __device__ Item at(int32_t index) const {
    const int32_t parts = splits / splits_of_item, sum = index / row_tiles;
    Item item;
    item.row_tile = index % row_tiles;
    item.first_split = sum % parts;
    item.split_end = item.first_split + splits_of_item;
    item.first_tile = sum / parts * kWarpgroups;
    item.tiles = min(output_tiles - item.first_tile, kWarpgroups);
    return item;
  }
};

// Issues the copies of all stages of all items of the block. Executed by one thread. If the kernel may begin
// early (`overlaps`), those of the weights of the first stages are issued before it waits for earlier
// kernels.
template <class Format, int kRows>
__device__ inline void fill_stages(const GemmCall& call, const TensorMap& x,
                                   const Stages<Format, kRows>& stages, const Items& items, bool overlaps) {
  int i = 0, ahead = 0;
  for (int32_t index = blockIdx.x; index < items.count; index += gridDim.x) {
    const Item item = items.at(index);
    TileWork work[kWarpgroups];
#pragma unroll
    for (int tile = 0; tile < kWarpgroups; ++tile)
      work[tile] = tile_work<Format>(call, item.first_tile + (tile < item.tiles ? tile : 0), 0, 1);
    const auto copy_weights = [&](int stage, int32_t k) {
      uint64_t* const full = stages.full + stage % stages.kCount;
      barrier_arrive_expect(full, stages.kInputBytes + item.tiles * stages.kWeightBytes);
#pragma unroll
      for (int tile = 0; tile < kWarpgroups; ++tile) {
        if (tile >= item.tiles) break;
        unsigned char* const to = stages.weights(stage, tile);
        bulk_copy(to, work[tile].weights + static_cast<int64_t>(k) * Format::kBytes, Format::kBytes, full);
        if constexpr (Format::kGroupBytes > 0)
          bulk_copy(to + Format::kBytes, group_of<Format>(work[tile], k), Format::kGroupBytes, full);
      }
    };
    const int32_t k_tiles = work[0].k_tiles;
    const int32_t begin = split_begin(k_tiles, item.first_split, items.splits);
    const int32_t end = split_begin(k_tiles, item.split_end, items.splits);
    if (i == 0) {
      if (overlaps)
        for (; ahead < stages.kCount && begin + ahead < end; ++ahead) copy_weights(ahead, begin + ahead);
      wait_for_earlier_kernels();
    }
    for (int32_t k = begin; k < end; ++k, ++i) {
      if (i >= ahead) {
        stages.wait_empty(i);
        copy_weights(i, k);
      }
      box_copy(stages.inputs(i), x, k * kTileInputs, item.row_tile * kRows, stages.full + i % stages.kCount);
    }
  }
}

// Multiplies what arrives in the stages of all items of the block. Executed by the warpgroups that multiply,
// which wait for each other only where a stage is released.
template <class Format, int kRows>
__device__ inline void multiply_items(const GemmCall& call, const Stages<Format, kRows>& stages,
                                      const Items& items, int warp) {
  // With more rows than this an item has one split, and its sums are the total.
  constexpr bool kTwoSets = kRows <= kMaxSequentialWgmmaRows;
  const int warpgroup = warp / 4, lane = threadIdx.x % 32;
  Products<Format, kRows> products;
  float total[kTwoSets ? kRows / 2 : 1];
  int i = 0;
  for (int32_t index = blockIdx.x; index < items.count; index += gridDim.x) {
    const Item item = items.at(index);
    const bool has_tile = warpgroup < item.tiles;
    const TileWork work = tile_work<Format>(call, item.first_tile + (has_tile ? warpgroup : 0), 0, 1);
    const int first_row = item.row_tile * kRows;
    for (int split = item.first_split; split < (kTwoSets ? item.split_end : item.first_split + 1); ++split) {
      const int end = i + split_begin(work.k_tiles, split + 1, items.splits) -
                      split_begin(work.k_tiles, split, items.splits);
      if (!has_tile) {
        for (; i < end; ++i) {
          stages.wait_full(i);
          stages.release(i);
        }
        continue;
      }
      products.clear();
      for (bool first = true; i < end; ++i, first = false) {
        stages.wait_full(i);
        products.add_tile(stages.weights(i, warpgroup), stages.inputs(i));
        if (!first) stages.release(i - 1);
      }
      products.finish();
      stages.release(i - 1);
      if constexpr (kTwoSets) {
#pragma unroll
        for (int j = 0; j < kRows / 2; ++j)
          total[j] = split == item.first_split ? products.sums[j] : total[j] + products.sums[j];
      }
    }
    if (!has_tile) continue;
    const bool complete = items.splits_of_item == items.splits;
#pragma unroll
    for (int j = 0; j < kRows / 4; ++j) {
      const int row = first_row + j / 2 * 8 + lane % 4 * 2 + j % 2, out = warp % 4 * 16 + lane / 4;
      const int low = j / 2 * 4 + j % 2, high = low + 2;
      const float low_sum = kTwoSets ? total[kTwoSets ? low : 0] : products.sums[low];
      const float high_sum = kTwoSets ? total[kTwoSets ? high : 0] : products.sums[high];
      if (complete)
        write_pair(call, work, row, out, low_sum, high_sum);
      else
        store_partial_pair(call, work, item.first_split, row, out, low_sum, high_sum);
    }
    if (complete) continue;
    int32_t* const arrived = call.arrived + work.tile * items.row_tiles + item.row_tile;
    const auto sync = [&] { sync_threads(1 + warpgroup, kWarpgroupThreads); };
    const bool leads = threadIdx.x % kWarpgroupThreads == 0;
    if (last_to_arrive(arrived, items.splits, stages.flags + warpgroup, leads, sync))
      add_splits(call, work, first_row, kRows, items.splits, threadIdx.x % kWarpgroupThreads,
                 kWarpgroupThreads);
  }
}

#endif

template <class Format, int kRows>
__global__ void __launch_bounds__(kThreads<Format, kRows>, 1)
    wgmma_tiles(const __grid_constant__ GemmCall call, const __grid_constant__ TensorMap x, int32_t splits,
                bool sequential, bool overlaps) {
#if APAR_HOPPER
  const Stages<Format, kRows> stages;
  const Items items(call, kRows, splits, sequential);
  // The same number in all threads of a warp, which ptxas has to know.
  const int warp = __shfl_sync(kFullWarp, static_cast<int>(threadIdx.x) / 32, 0);
  let_next_kernel_begin();
  if (threadIdx.x == 0) stages.init();
  __syncthreads();
  if (warp < kConsumers) {
    wait_for_earlier_kernels();
    if constexpr (kMovesRegisters<Format, kRows>) take_registers<kMultiplyRegisters>();
    multiply_items(call, stages, items, warp);
  } else {
    if constexpr (kMovesRegisters<Format, kRows>) give_registers<kCopyRegisters>();
    if (threadIdx.x == kConsumers * 32)
      fill_stages(call, x, stages, items, overlaps);
    else
      wait_for_earlier_kernels();
  }
#else
  __trap();  // this build has no code for sm_90a: an error is better than outputs that were never written
#endif
}

template <class Format, int kRows>
void launch_tiles(Stream stream, const GemmCall& call, const GemmPlan& plan) {
  launch_overlapping<wgmma_tiles<Format, kRows>>(
      stream, {static_cast<uint32_t>(plan.blocks), 1}, kThreads<Format, kRows>,
      Stages<Format, kRows>::kShared, call, make_tensor_map(call.x_bf16, call.rows, call.in, kRows),
      plan.splits, plan.sequential, stream.overlaps);
}

template <class Format>
void launch_format(Stream stream, const GemmCall& call, const GemmPlan& plan) {
  if (plan.tile_rows == 32) return launch_tiles<Format, 32>(stream, call, plan);
  if (plan.tile_rows == 64) return launch_tiles<Format, 64>(stream, call, plan);
  if (plan.tile_rows == 128) return launch_tiles<Format, 128>(stream, call, plan);
  if constexpr (kFromShared<Format>) {
    if (plan.tile_rows == 192) return launch_tiles<Format, 192>(stream, call, plan);
    if (plan.tile_rows == 256) return launch_tiles<Format, 256>(stream, call, plan);
  }
  throw Error(ErrorCode::internal, "gemm_wgmma has no tiles of " + std::to_string(plan.tile_rows) + " rows");
}

}  // namespace

void gemm_wgmma(Stream stream, const GemmCall& call, WeightFormat format, const GemmPlan& plan) {
  with_tiles(format, [&](auto tiles) { launch_format<decltype(tiles)>(stream, call, plan); });
}

}  // namespace apar::cuda
