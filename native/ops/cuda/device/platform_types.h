#pragma once

#include <cstdint>

namespace apar::cuda {

// A queue of launches and copies.
struct Stream {
  void* handle = nullptr;  // a cudaStream_t, or the emulated device
  bool overlaps = false;   // launch_overlapping() may let a kernel begin early (overlap.cuh)
};

struct Grid {
  uint32_t x = 1;
  uint32_t y = 1;
};

// The number of tiles of `tile` elements that hold all elements.
constexpr int32_t tiles_of(int64_t elements, int32_t tile) {
  return static_cast<int32_t>((elements + tile - 1) / tile);
}

// The number of threads of a block with one thread per element, in whole warps, but at most `max`.
constexpr uint32_t threads_for(int32_t count, uint32_t max) {
  const uint32_t threads = (static_cast<uint32_t>(count) + 31) / 32 * 32;
  return threads < max ? threads : max;
}

}  // namespace apar::cuda
