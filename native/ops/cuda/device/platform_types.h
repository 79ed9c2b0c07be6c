#pragma once

#include <cstdint>

namespace apar::cuda {

// Where launches and copies queue up: a cudaStream_t, or the emulator's.
using Stream = void*;

struct Grid {
  uint32_t x = 1;
  uint32_t y = 1;
};

// Tiles of `tile` elements that hold them all.
constexpr int32_t tiles_of(int64_t elements, int32_t tile) {
  return static_cast<int32_t>((elements + tile - 1) / tile);
}

// Of a block with a thread for each of `count`, in whole warps, or `most`.
constexpr uint32_t threads_for(int32_t count, uint32_t most) {
  const uint32_t threads = (static_cast<uint32_t>(count) + 31) / 32 * 32;
  return threads < most ? threads : most;
}

}  // namespace apar::cuda
