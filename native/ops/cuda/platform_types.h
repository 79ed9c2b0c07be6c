#pragma once

#include <cstdint>

namespace apar::cuda {

// Where launches and copies queue up: a cudaStream_t, or the emulator's.
using Stream = void*;

struct Grid {
  uint32_t x = 1;
  uint32_t y = 1;
};

}  // namespace apar::cuda
