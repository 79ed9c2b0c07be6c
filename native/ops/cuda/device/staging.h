#pragma once

#include <array>
#include <cstddef>
#include <functional>

#include "ops/cuda/device/device.h"

namespace apar::cuda {

// Copies pageable or generated host data to the device, and results back, through two pinned buffers: while
// one is copied, the other is filled or emptied.
class Staging {
 public:
  // Writes units [first, first + count) to `piece`.
  using Fill = std::function<void(size_t first, size_t count, std::byte* piece)>;

  Staging(Device& device, size_t piece_bytes);

  // Fills `units` consecutive units of unit_bytes each, starting at `to`, in stream order. A unit is at most
  // piece_bytes.
  void stream(void* to, size_t units, size_t unit_bytes, const Fill& fill);
  // Copies from the device to any host memory. Returns when the copy is complete and the device is idle.
  void fetch(void* to, const void* from, size_t bytes);

 private:
  Device& device_;
  size_t piece_bytes_;
  std::array<std::byte*, 2> pieces_;
  size_t next_ = 0;
};

}  // namespace apar::cuda
