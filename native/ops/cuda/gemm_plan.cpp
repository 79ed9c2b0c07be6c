#include "ops/cuda/gemm_plan.h"

#include <algorithm>
#include <array>

namespace apar::cuda {
namespace {

// Blocks per multiprocessor that keep enough loads under way to fill the memory's bandwidth.
constexpr int32_t kBlocksPerMultiprocessor = 2;
constexpr int32_t kMinTilesPerSplit = 4;
constexpr std::array<int32_t, 15> kPaddedRows = {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512};

}  // namespace

GemmPlan plan_gemm(int32_t rows, int32_t tiles, int32_t input_tiles, int32_t multiprocessors) {
  GemmPlan plan;
  if (rows <= kMaxStreamRows) plan.kernel = GemmKernel::stream;
  while (plan.tile_rows < std::min(rows, kMaxTileRows)) plan.tile_rows *= 2;
  const int32_t wanted = kBlocksPerMultiprocessor * multiprocessors;
  const int32_t most = std::clamp(input_tiles / kMinTilesPerSplit, 1, kMaxSplits);
  plan.splits = std::clamp((wanted + tiles - 1) / tiles, 1, most);
  plan.in_turn = plan.tile_rows == kMaxTileRows && plan.splits > 1 &&
                 tiles * tiles_of(rows, kMaxTileRows) >= multiprocessors;
  return plan;
}

int64_t partial_floats(const GemmPlan& plan, int32_t rows, int32_t tiles) {
  if (plan.splits == 1 || plan.in_turn) return 0;
  return int64_t{plan.splits} * rows * tiles * kTileOuts;
}

int32_t padded_rows(int32_t rows, int32_t max_rows) {
  const auto bucket = std::lower_bound(kPaddedRows.begin(), kPaddedRows.end(), rows);
  return bucket == kPaddedRows.end() ? rows : std::min(*bucket, max_rows);
}

}  // namespace apar::cuda
