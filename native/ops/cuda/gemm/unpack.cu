// Unpacks weights into row-major order, which cuBLASLt needs.
#include "ops/cuda/gemm/blocks.cuh"
#include "ops/cuda/gemm/gemm.h"
#include "ops/cuda/gemm/weight_tiles.h"

namespace apar::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kPieceBytes = 16, kPieces = kTileInputs * 2 / kPieceBytes;  // of a row of a tile

__global__ void __launch_bounds__(kThreads)
    unpack_tiles(const unsigned char* packed, PairHalf half, int32_t outs, int32_t in, uint16_t* rows) {
  const int k_tile = blockIdx.x, tile = blockIdx.y;
  const unsigned char* const from =
      packed + (static_cast<int64_t>(tile) * gridDim.x + k_tile) * tile_bytes(WeightFormat::bf16);
  for (int i = threadIdx.x; i < kTileOuts * kPieces; i += kThreads) {
    const int row = i / kPieces, piece = i % kPieces;
    const int packed_row = tile * kTileOuts + row, input = k_tile * kTileInputs + piece * 8;
    int out = packed_row;
    if (half != PairHalf::none) {
      if ((packed_row / kPairOuts % 2 == 0) != (half == PairHalf::gate)) continue;
      out = packed_row / (2 * kPairOuts) * kPairOuts + packed_row % kPairOuts;
    }
    if (out < outs && input < in)
      *reinterpret_cast<uint4*>(rows + static_cast<int64_t>(out) * in + input) =
          *reinterpret_cast<const uint4*>(from + row * kPieces * kPieceBytes +
                                          ((piece ^ (row % 8)) * kPieceBytes));
  }
}

}  // namespace

void unpack_bf16(Stream stream, const void* packed, PairHalf half, int32_t outs, int32_t in, uint16_t* rows) {
  const int32_t tiles = half == PairHalf::none ? tiles_of(outs, kTileOuts) : pair_tiles(outs);
  const Grid grid = {static_cast<uint32_t>(tiles_of(in, kTileInputs)), static_cast<uint32_t>(tiles)};
  launch<unpack_tiles>(stream, grid, kThreads, 0, static_cast<const unsigned char*>(packed), half, outs, in,
                       rows);
}

}  // namespace apar::cuda
