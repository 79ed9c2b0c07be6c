#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "ops/cuda/device/device.h"

namespace apar::cuda {

// An array on the device and its copy in pinned host memory, both freed with the device.
template <class T>
struct PinnedArray {
  T* device = nullptr;
  T* pinned = nullptr;
  size_t count = 0;
  bool in_flight = false;  // for the owner: the device may still read the pinned copy

  // Throws Error{out_of_memory}. What was allocated before stays until the device is freed.
  void resize(Device& on, size_t size, const char* what) {
    device = static_cast<T*>(on.allocate(size * sizeof(T), what));
    pinned = static_cast<T*>(on.allocate_pinned(size * sizeof(T)));
    count = size;
  }
  // Fills the pinned copy, from which the caller uploads. `values` are at most `count`.
  const T* put(std::span<const T> values) {
    std::copy(values.begin(), values.end(), pinned);
    return pinned;
  }
};

}  // namespace apar::cuda
