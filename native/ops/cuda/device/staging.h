#pragma once

#include <array>
#include <cstddef>
#include <functional>

#include "ops/cuda/device/device.h"

namespace apar::cuda {

// Streams what the host makes, or has mapped, to the device, and results back, through two pinned buffers:
// while one is on its way, the other is filled or emptied.
class Staging {
 public:
  // Writes units [first, first + count) to `piece`.
  using Fill = std::function<void(size_t first, size_t count, std::byte* piece)>;

  Staging(Device& device, size_t piece_bytes);

  // Fills `units` units of unit_bytes each, at most a piece, one after the other from `to` on. They are there
  // in stream order.
  void stream(void* to, size_t units, size_t unit_bytes, const Fill& fill);
  // Copies from the device to any memory of the host, and returns when it is there and the device idle.
  void fetch(void* to, const void* from, size_t bytes);

 private:
  Device& device_;
  size_t piece_bytes_;
  std::array<std::byte*, 2> pieces_;
  size_t next_ = 0;
};

}  // namespace apar::cuda
