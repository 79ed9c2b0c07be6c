#pragma once

#include <cstdint>
#include <string>

#include "common/model_config.h"
#include "ops/cuda/device/platform_types.h"

namespace apar::cuda {

// Linear layers are packed in tiles of kTileOuts outputs x kTileInputs inputs, one after the other along the
// inputs, padded with zeros; a tile is what a block of threads copies to shared memory at once
// (docs/adr/0007).
constexpr int32_t kTileOuts = 64;
constexpr int32_t kTileInputs = 64;
constexpr int32_t kMaxSplits = 8;
constexpr int32_t kMaxTileRows = 128;
constexpr int32_t kMaxStreamRows = 4;
constexpr int32_t kMinWgmmaRows = 16;
constexpr int32_t kMinCublasLtRows = 1024;  // fewer are not worth unpacking the weights
constexpr int32_t kWgmmaTiles = 2;          // of outputs, by one block

enum class GemmKernel : uint8_t {
  stream,    // few rows: weights go from memory to registers
  mma,       // mma.sync, weights and rows through shared memory
  wgmma,     // Hopper's wgmma and bulk copies (docs/adr/0013)
  cublaslt,  // long prompts by a library (docs/adr/0014)
};

// Which of them may be used.
enum class GemmChoice : uint8_t {
  mma,        // stream and mma: a row's bits do not depend on the number of rows
  wgmma,      // wgmma alone, whatever the number of rows
  cublaslt,   // cuBLASLt for bf16 from kMinCublasLtRows rows, else as mma
  automatic,  // cuBLASLt likewise where it is, wgmma from kMinWgmmaRows rows, else as mma
};
// "mma", "wgmma", "cublaslt", "auto". Throws Error{invalid_config} for another name.
GemmChoice parse_gemm_choice(const std::string& name);
// What APAR_CUDA_GEMM in the environment says, mma without it.
GemmChoice gemm_choice_of_environment();

struct GemmDevice {
  int32_t multiprocessors = 0;
  int32_t capability = 80;  // 90 has wgmma
  GemmChoice choice = GemmChoice::mma;
  bool cublaslt = false;  // the library is there
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
// the call. Throws Error{unavailable} when the choice is wgmma and the device has none.
GemmPlan plan_gemm(int32_t rows, int32_t tiles, int32_t input_tiles, WeightFormat format,
                   const GemmDevice& device);

// Floats that the parts of such a call take, 0 without parts.
int64_t partial_floats(const GemmPlan& plan, int32_t rows, int32_t tiles);

// What the parts of a call take on the device: their sums, and a counter per tile of those that are there.
struct GemmScratch {
  int64_t partials = 0;  // floats
  int64_t arrived = 0;
};
GemmScratch gemm_scratch(const GemmPlan& plan, int32_t rows, int32_t tiles);
// The most that any call of at most max_rows rows takes, whatever its layers' shapes: sums are cut only where
// there are few tiles, so this is little. Throws as plan_gemm().
GemmScratch most_gemm_scratch(int32_t max_rows, const GemmDevice& device);

// The number of rows that a step of `rows` rows is computed with: few different ones, so that few graphs are
// recorded. At most max_rows.
int32_t padded_rows(int32_t rows, int32_t max_rows);

}  // namespace apar::cuda
