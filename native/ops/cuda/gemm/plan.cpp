#include "ops/cuda/gemm/plan.h"

#include <algorithm>
#include <array>
#include <cstdlib>

#include "common/error.h"

namespace apar::cuda {
namespace {

// Blocks per multiprocessor that keep enough loads under way to fill the memory's bandwidth. At 128 rows of
// bf16 no more fit.
constexpr int32_t kBlocksPerMultiprocessor = 2;
constexpr int32_t kMinTilesPerSplit = 4;
constexpr std::array<int32_t, 15> kPaddedRows = {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512};

constexpr int32_t kMinWgmmaTileRows = 32;
constexpr int32_t kMaxRegisterWgmmaTileRows = 64;  // of weights that become bf16 in registers

bool takes_cublaslt(int32_t rows, WeightFormat format, const GemmDevice& device) {
  return device.cublaslt && device.choice != GemmChoice::mma && device.choice != GemmChoice::wgmma &&
         format == WeightFormat::bf16 && rows >= kMinCublasLtRows;
}

bool takes_wgmma(int32_t rows, const GemmDevice& device) {
  if (device.choice == GemmChoice::mma || device.choice == GemmChoice::cublaslt) return false;
  if (device.capability == 90) return device.choice == GemmChoice::wgmma || rows >= kMinWgmmaRows;
  if (device.choice == GemmChoice::automatic) return false;
  throw Error(ErrorCode::unavailable, "wgmma needs a device of compute capability 9.0, this one has " +
                                          std::to_string(device.capability / 10) + "." +
                                          std::to_string(device.capability % 10));
}

// Parts per sum that bring the device's blocks to `at_once` or just above, fewer where those just above
// would wait for a second wave: a part takes 1 / parts of a whole sum, so that is waves(parts) / parts long.
int32_t parts_of_sums(int32_t tiles, int32_t at_once, int32_t most) {
  const auto waves = [&](int32_t parts) { return tiles_of(int64_t{tiles} * parts, at_once); };
  const int32_t filling = std::min(tiles_of(at_once, tiles), most);
  int32_t best = 1;
  for (int32_t parts = 2; parts <= filling; ++parts)
    if (waves(parts) * best <= waves(best) * parts) best = parts;
  return best;
}

}  // namespace

GemmChoice parse_gemm_choice(const std::string& name) {
  if (name == "mma") return GemmChoice::mma;
  if (name == "wgmma") return GemmChoice::wgmma;
  if (name == "cublaslt") return GemmChoice::cublaslt;
  if (name == "auto") return GemmChoice::automatic;
  throw Error(ErrorCode::invalid_config, "APAR_CUDA_GEMM is mma, wgmma, cublaslt or auto, not " + name);
}

GemmChoice gemm_choice_of_environment() {
  const char* const name = std::getenv("APAR_CUDA_GEMM");
  return name == nullptr ? GemmChoice::mma : parse_gemm_choice(name);
}

GemmPlan plan_gemm(int32_t rows, int32_t tiles, int32_t input_tiles, WeightFormat format,
                   const GemmDevice& device) {
  GemmPlan plan;
  if (takes_cublaslt(rows, format, device)) {
    plan.kernel = GemmKernel::cublaslt;
    plan.tile_rows = kMaxTileRows;
    return plan;
  }
  const int32_t most = std::clamp(input_tiles / kMinTilesPerSplit, 1, kMaxSplits);
  plan.splits = parts_of_sums(tiles, kBlocksPerMultiprocessor * device.multiprocessors, most);
  int32_t max_tile_rows = kMaxTileRows;
  int32_t output_blocks = tiles;
  bool may_take_turns = true;
  if (takes_wgmma(rows, device)) {
    plan.kernel = GemmKernel::wgmma;
    plan.tile_rows = kMinWgmmaTileRows;
    if (format != WeightFormat::bf16) max_tile_rows = kMaxRegisterWgmmaTileRows;
    output_blocks = tiles_of(tiles, kWgmmaTiles);
  } else if (rows <= kMaxStreamRows) {
    plan.kernel = GemmKernel::stream;
  }
  while (plan.tile_rows < std::min(rows, max_tile_rows)) plan.tile_rows *= 2;
  if (plan.kernel != GemmKernel::wgmma) may_take_turns = plan.tile_rows == kMaxTileRows;
  plan.in_turn = may_take_turns && plan.splits > 1 &&
                 output_blocks * tiles_of(rows, plan.tile_rows) >= device.multiprocessors;
  return plan;
}

int64_t partial_floats(const GemmPlan& plan, int32_t rows, int32_t tiles) {
  if (plan.splits == 1 || plan.in_turn) return 0;
  return int64_t{plan.splits} * rows * tiles * kTileOuts;
}

GemmScratch gemm_scratch(const GemmPlan& plan, int32_t rows, int32_t tiles) {
  const int64_t partials = partial_floats(plan, rows, tiles);
  return {partials, partials > 0 ? int64_t{tiles} * tiles_of(rows, plan.tile_rows) : 0};
}

GemmScratch most_gemm_scratch(int32_t max_rows, const GemmDevice& device) {
  constexpr int32_t kInputTiles = kMaxSplits * kMinTilesPerSplit;  // more cut no finer, fewer coarser
  constexpr int32_t kRowStep = 64;                                 // less does not change the number of tiles
  GemmScratch most;
  // With more tiles no sum is cut.
  for (int32_t tiles = 1; tiles < kBlocksPerMultiprocessor * device.multiprocessors; ++tiles) {
    for (int32_t rows = 1; rows <= max_rows;
         rows = rows < kRowStep || rows == max_rows ? rows + 1 : std::min(rows + kRowStep, max_rows)) {
      for (const WeightFormat format : {WeightFormat::bf16, WeightFormat::int8}) {
        const GemmScratch one =
            gemm_scratch(plan_gemm(rows, tiles, kInputTiles, format, device), rows, tiles);
        most.partials = std::max(most.partials, one.partials);
        most.arrived = std::max(most.arrived, one.arrived);
      }
    }
  }
  return most;
}

int32_t padded_rows(int32_t rows, int32_t max_rows) {
  if (rows == 0) return 0;
  const auto bucket = std::lower_bound(kPaddedRows.begin(), kPaddedRows.end(), rows);
  return bucket == kPaddedRows.end() ? rows : std::min(*bucket, max_rows);
}

}  // namespace apar::cuda
