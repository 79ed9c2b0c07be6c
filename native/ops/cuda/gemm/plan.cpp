#include "ops/cuda/gemm/plan.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <limits>

#include "common/error.h"

namespace apar::cuda {
namespace {

// Blocks per multiprocessor that keep enough loads in flight to saturate the memory bandwidth. At 128 rows of
// bf16 no more fit.
constexpr int32_t kBlocksPerMultiprocessor = 2;
constexpr int32_t kMinTilesPerSplit = 4;
constexpr std::array<int32_t, 15> kPaddedRows = {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512};

constexpr int32_t kMinWgmmaTileRows = 32;
// For more rows than kMaxTileRows of bf16. Other formats are converted in registers, which have no room for
// more.
constexpr std::array<int32_t, 3> kLongWgmmaTileRows = {kMaxWgmmaTileRows, kMaxSequentialWgmmaRows,
                                                       kMaxTileRows};
constexpr int32_t kMaxParallelWaves = 2;

bool uses_cublaslt(int32_t rows, WeightFormat format, const GemmDevice& device) {
  return device.cublaslt && device.backend != GemmBackend::mma && device.backend != GemmBackend::wgmma &&
         format == WeightFormat::bf16 && rows >= kMinCublasLtRows;
}

bool uses_wgmma(int32_t rows, const GemmDevice& device) {
  if (device.backend == GemmBackend::mma || device.backend == GemmBackend::cublaslt) return false;
  if (device.capability == 90) return device.backend == GemmBackend::wgmma || rows >= kMinWgmmaRows;
  if (device.backend == GemmBackend::automatic) return false;
  throw Error(ErrorCode::unavailable, "wgmma needs a device of compute capability 9.0, this one has " +
                                          std::to_string(device.capability / 10) + "." +
                                          std::to_string(device.capability % 10));
}

// The number of splits per sum. It raises the number of blocks to `at_once`, the blocks that the device runs
// at the same time, or just above. A split takes 1 / splits of the time of a whole sum, so the product takes
// waves(splits) / splits. Fewer splits are chosen where that is shorter, because blocks just above `at_once`
// would need another wave.
int32_t splits_of_sums(int32_t tiles, int32_t at_once, int32_t max) {
  const auto waves = [&](int32_t splits) { return tiles_of(int64_t{tiles} * splits, at_once); };
  const int32_t filling = std::min(tiles_of(at_once, tiles), max);
  int32_t best = 1;
  for (int32_t splits = 2; splits <= filling; ++splits)
    if (waves(splits) * best <= waves(best) * splits) best = splits;
  return best;
}

// Whether some number of rows uses wgmma. Then all numbers of rows use its splits, so that a row has the same
// bits in each.
bool plans_for_wgmma(const GemmDevice& device) {
  return device.backend == GemmBackend::wgmma ||
         (device.backend == GemmBackend::automatic && device.capability == 90);
}

int32_t plan_splits(int32_t tiles, int32_t input_tiles, const GemmDevice& device) {
  const int32_t max = std::clamp(input_tiles / kMinTilesPerSplit, 1, kMaxSplits);
  if (plans_for_wgmma(device))
    return splits_of_sums(tiles_of(tiles, kWgmmaTiles), device.multiprocessors, max);
  return splits_of_sums(tiles, kBlocksPerMultiprocessor * device.multiprocessors, max);
}

// Calls visit(tile_rows) for every tile of rows that wgmma may use.
template <class Visit>
void for_each_wgmma_tile(int32_t rows, WeightFormat format, Visit visit) {
  if (format == WeightFormat::bf16 && rows > kMaxTileRows) {
    for (const int32_t tile_rows : kLongWgmmaTileRows) visit(tile_rows);
  } else {
    int32_t tile_rows = kMinWgmmaTileRows;
    while (tile_rows < std::min(rows, kMaxTileRows)) tile_rows *= 2;
    visit(tile_rows);
  }
}

// Whether the splits of a sum may be different work items. That bounds the memory for partial sums, so that
// they stay in the L2 cache until they are added.
bool may_be_parallel(int32_t sums, int32_t splits, const GemmDevice& device) {
  return splits > 1 && sums * splits <= kMaxParallelWaves * device.multiprocessors;
}

// Chooses the tile of rows, and whether one item computes all splits, so that the block with the most items
// moves the fewest bytes through the L2 cache. That is expected to limit this kernel (docs/adr/0084).
GemmPlan plan_wgmma(int32_t rows, int32_t tiles, int32_t input_tiles, int32_t splits, WeightFormat format,
                    const GemmDevice& device) {
  GemmPlan best = {GemmKernel::wgmma, 0, splits, false, 0};
  int64_t least = std::numeric_limits<int64_t>::max();
  const auto consider = [&](int32_t tile_rows, int32_t items, int32_t splits_of_item) {
    constexpr int64_t kWeightRows = kWgmmaTiles * kTileOuts, kBf16 = 2, kF32 = 4;
    const bool complete = splits_of_item == splits;
    const int64_t inputs = int64_t{tiles_of(int64_t{input_tiles} * splits_of_item, splits)} * kTileInputs;
    // Partial sums are written, read again and added, complete ones only written.
    const int64_t bytes =
        inputs * (kWeightRows + tile_rows) * kBf16 + kWeightRows * tile_rows * kF32 * (complete ? 1 : 3);
    const int64_t of_block = tiles_of(items, device.multiprocessors) * bytes;
    if (of_block >= least) return;
    least = of_block;
    best.tile_rows = tile_rows;
    best.sequential = splits > 1 && complete;
    best.blocks = std::min(items, device.multiprocessors);
  };
  for_each_wgmma_tile(rows, format, [&](int32_t tile_rows) {
    const int32_t sums = tiles_of(tiles, kWgmmaTiles) * tiles_of(rows, tile_rows);
    if (splits == 1 || tile_rows <= kMaxSequentialWgmmaRows) consider(tile_rows, sums, splits);
    if (may_be_parallel(sums, splits, device)) consider(tile_rows, sums * splits, 1);
  });
  return best;
}

}  // namespace

GemmBackend parse_gemm_backend(const std::string& name) {
  if (name == "mma") return GemmBackend::mma;
  if (name == "wgmma") return GemmBackend::wgmma;
  if (name == "cublaslt") return GemmBackend::cublaslt;
  if (name == "auto") return GemmBackend::automatic;
  throw Error(ErrorCode::invalid_config, "APAR_CUDA_GEMM is mma, wgmma, cublaslt or auto, not " + name);
}

GemmBackend gemm_backend_from_environment() {
  const char* const name = std::getenv("APAR_CUDA_GEMM");
  return name == nullptr ? GemmBackend::mma : parse_gemm_backend(name);
}

GemmPlan plan_gemm(int32_t rows, int32_t tiles, int32_t input_tiles, WeightFormat format,
                   const GemmDevice& device) {
  GemmPlan plan;
  if (uses_cublaslt(rows, format, device)) {
    plan.kernel = GemmKernel::cublaslt;
    plan.tile_rows = kMaxTileRows;
    return plan;
  }
  plan.splits = plan_splits(tiles, input_tiles, device);
  if (uses_wgmma(rows, device)) return plan_wgmma(rows, tiles, input_tiles, plan.splits, format, device);
  if (rows <= kMaxStreamRows) plan.kernel = GemmKernel::stream;
  while (plan.tile_rows < std::min(rows, kMaxTileRows)) plan.tile_rows *= 2;
  plan.sequential = plan.tile_rows == kMaxTileRows && plan.splits > 1 &&
                    tiles * tiles_of(rows, plan.tile_rows) >= device.multiprocessors;
  return plan;
}

int64_t partial_floats(const GemmPlan& plan, int32_t rows, int32_t tiles) {
  if (plan.splits == 1 || plan.sequential) return 0;
  return int64_t{plan.splits} * rows * tiles * kTileOuts;
}

GemmScratch gemm_scratch(const GemmPlan& plan, int32_t rows, int32_t tiles) {
  const int64_t partials = partial_floats(plan, rows, tiles);
  return {partials, partials > 0 ? int64_t{tiles} * tiles_of(rows, plan.tile_rows) : 0};
}

GemmScratch max_gemm_scratch(int32_t max_rows, const GemmDevice& device) {
  constexpr int32_t kInputTiles = kMaxSplits * kMinTilesPerSplit;  // enough for the largest number of splits
  constexpr int32_t kRowStep = 64;  // within a step the number of row tiles of each size stays the same
  GemmScratch max;
  const auto include = [&](const GemmScratch& one) {
    max.partials = std::max(max.partials, one.partials);
    max.arrived = std::max(max.arrived, one.arrived);
  };
  // With more tiles no sum is split.
  for (int32_t tiles = 1; tiles < kBlocksPerMultiprocessor * device.multiprocessors; ++tiles) {
    for (int32_t rows = 1; rows <= max_rows;
         rows = rows < kRowStep || rows == max_rows ? rows + 1 : std::min(rows + kRowStep, max_rows)) {
      for (const WeightFormat format : {WeightFormat::bf16, WeightFormat::int8}) {
        const GemmPlan plan = plan_gemm(rows, tiles, kInputTiles, format, device);
        if (plan.kernel != GemmKernel::wgmma) {
          include(gemm_scratch(plan, rows, tiles));
          continue;
        }
        // Its tiles of rows depend on the inputs, too: what any of them needs.
        for_each_wgmma_tile(rows, format, [&](int32_t tile_rows) {
          const int32_t sums = tiles_of(tiles, kWgmmaTiles) * tiles_of(rows, tile_rows);
          if (may_be_parallel(sums, plan.splits, device))
            include(gemm_scratch({GemmKernel::wgmma, tile_rows, plan.splits, false, 0}, rows, tiles));
        });
      }
    }
  }
  return max;
}

int32_t padded_rows(int32_t rows, int32_t max_rows) {
  if (rows == 0) return 0;
  const auto bucket = std::lower_bound(kPaddedRows.begin(), kPaddedRows.end(), rows);
  return bucket == kPaddedRows.end() ? rows : std::min(*bucket, max_rows);
}

}  // namespace apar::cuda
