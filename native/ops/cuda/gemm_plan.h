#pragma once

#include <cstdint>

namespace apar::cuda {

// Linear layers are packed in tiles of kTileOuts outputs x kTileInputs inputs, one after the other along the
// inputs, padded with zeros; a tile is what a block of threads copies to shared memory at once
// (docs/adr/0007).
constexpr int32_t kTileOuts = 64;
constexpr int32_t kTileInputs = 64;
constexpr int32_t kMaxSplits = 8;
constexpr int32_t kMaxTileRows = 128;
constexpr int32_t kMaxStreamRows = 4;

constexpr int32_t tiles_of(int64_t elements, int32_t tile) {
  return static_cast<int32_t>((elements + tile - 1) / tile);
}

enum class GemmKernel : uint8_t {
  stream,  // few rows: weights go from memory to registers
  mma,     // mma.sync, weights and rows through shared memory
};

// How one matmul call is cut into blocks of threads.
struct GemmPlan {
  GemmKernel kernel = GemmKernel::mma;
  int32_t tile_rows = 8;  // 8, 16, 32, 64 or 128
  int32_t splits = 1;     // parts of the inputs that are summed apart, then added in order
  bool in_turn = false;   // one block sums all parts, else a block per part
};

// The parts depend on the layers' shapes alone and are added in order, in turn or not, so that a row has the
// same bits beside one other and beside a thousand. `tiles` is the number of output tiles of all layers of
// the call.
GemmPlan plan_gemm(int32_t rows, int32_t tiles, int32_t input_tiles, int32_t multiprocessors);

// Floats that the parts of such a call take, 0 without parts.
int64_t partial_floats(const GemmPlan& plan, int32_t rows, int32_t tiles);

// The number of rows that a step of `rows` rows is computed with: few different ones, so that few graphs are
// recorded. At most max_rows.
int32_t padded_rows(int32_t rows, int32_t max_rows);

}  // namespace apar::cuda
