#pragma once

#include <cstdint>
#include <string>

#include "common/model_config.h"
#include "ops/cuda/device/platform_types.h"

namespace apar::cuda {

// Linear layers are packed in tiles of kTileOuts outputs x kTileInputs inputs, padded with zeros. Tiles
// follow one another along the inputs. A block of threads copies one tile at a time to shared memory
// (docs/adr/0007).
constexpr int32_t kTileOuts = 64;
constexpr int32_t kTileInputs = 64;
constexpr int32_t kMaxSplits = 8;
constexpr int32_t kMaxTileRows = 128;
constexpr int32_t kMaxStreamRows = 4;
constexpr int32_t kMinWgmmaRows = 16;
constexpr int32_t kMinCublasLtRows = 512;         // with fewer rows, unpacking the weights takes too long
constexpr int32_t kWgmmaTiles = 2;                // output tiles of one work item
constexpr int32_t kMaxSequentialWgmmaRows = 192;  // two sets of sums of more rows do not fit the registers
constexpr int32_t kMaxWgmmaTileRows = 256;

enum class GemmKernel : uint8_t {
  stream,    // few rows: weights are loaded from memory straight into registers
  mma,       // mma.sync, weights and rows through shared memory
  wgmma,     // Hopper's wgmma and bulk copies (docs/adr/0013)
  cublaslt,  // long prompts: cuBLASLt (docs/adr/0014)
};

// The kernels that a device may use.
enum class GemmBackend : uint8_t {
  mma,        // stream and mma: a row's bits do not depend on the number of rows
  wgmma,      // only wgmma, for any number of rows
  cublaslt,   // cuBLASLt for bf16 weights from kMinCublasLtRows rows on, else as mma
  automatic,  // cuBLASLt if it is installed, for the same products; wgmma from kMinWgmmaRows rows on; else as
              // mma
};
// "mma", "wgmma", "cublaslt", "auto". Throws Error{invalid_config} for any other name.
GemmBackend parse_gemm_backend(const std::string& name);
// The backend that the environment variable APAR_CUDA_GEMM names; mma if it is not set.
GemmBackend gemm_backend_from_environment();

struct GemmDevice {
  int32_t multiprocessors = 0;
  int32_t capability = 80;  // 90 has wgmma
  GemmBackend backend = GemmBackend::mma;
  bool cublaslt = false;  // the library is loaded
};

// How one matmul call is divided into blocks of threads.
struct GemmPlan {
  GemmKernel kernel = GemmKernel::mma;
  int32_t tile_rows = 8;    // 8, 16, 32, 64 or 128; of wgmma also 192 and 256
  int32_t splits = 1;       // split-K: ranges of the inputs that are summed separately, then added in order
  bool sequential = false;  // one block computes all splits, else one block per split
  int32_t blocks = 0;  // of wgmma, each of which takes several work items; others have one block per item
};

// The number of splits depends only on the shapes of the layers, the device and the backend, and their sums
// are always added in the same order. So a row has the same bits with any number of other rows. `tiles` is
// the number of output tiles of all layers of the call. Throws Error{unavailable} when the backend is wgmma
// and the device does not support it.
GemmPlan plan_gemm(int32_t rows, int32_t tiles, int32_t input_tiles, WeightFormat format,
                   const GemmDevice& device);

// The number of partial sums that such a call stores; 0 if no sum is split between blocks.
int64_t partial_floats(const GemmPlan& plan, int32_t rows, int32_t tiles);

// The scratch memory of a call with splits: the partial sums, and per tile a counter of the splits that are
// complete.
struct GemmScratch {
  int64_t partials = 0;  // floats
  int64_t arrived = 0;   // counters
};
GemmScratch gemm_scratch(const GemmPlan& plan, int32_t rows, int32_t tiles);
// The maximum over all calls of up to max_rows rows, for layers of any shape. It is small, because sums are
// split only where there are few tiles. Throws like plan_gemm().
GemmScratch max_gemm_scratch(int32_t max_rows, const GemmDevice& device);

// The padded number of rows of a step of `rows` rows, at most max_rows. There are few different values, so
// that few graphs are captured.
int32_t padded_rows(int32_t rows, int32_t max_rows);

}  // namespace apar::cuda
