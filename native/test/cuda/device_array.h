#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "common/float16.h"
#include "ops/cuda/device/device.h"

namespace apar::test {

// An array on a device that the host can write and read. It starts as 0xff bytes, which are NaN as f32 and as
// bf16.
template <class T>
class DeviceArray {
 public:
  DeviceArray(cuda::Device& device, size_t size)
      : device_(device),
        size_(size),
        data_(static_cast<T*>(device.allocate(size * sizeof(T), "test"))),
        pinned_(static_cast<T*>(device.allocate_pinned(size * sizeof(T)))) {
    poison();
  }
  DeviceArray(cuda::Device& device, std::span<const T> values) : DeviceArray(device, values.size()) {
    set(values);
  }
  DeviceArray(cuda::Device& device, const std::vector<T>& values)
      : DeviceArray(device, std::span<const T>(values)) {}

  void set(std::span<const T> values) {
    std::copy_n(values.begin(), size_, pinned_);
    copy();
  }
  void poison() {
    std::memset(static_cast<void*>(pinned_), 0xff, size_ * sizeof(T));
    copy();
  }
  std::vector<T> get() const {
    device_.download(pinned_, data_, size_ * sizeof(T));
    device_.synchronize();
    return {pinned_, pinned_ + size_};
  }
  T* data() const { return data_; }

 private:
  void copy() {
    device_.upload(data_, pinned_, size_ * sizeof(T));
    device_.synchronize();
  }

  cuda::Device& device_;
  size_t size_;
  T* data_;
  T* pinned_;
};

// Uniform in (-scale, scale).
inline std::vector<float> random_floats(std::mt19937& random, size_t count, float scale = 1) {
  std::vector<float> values(count);
  for (float& value : values)
    value = static_cast<float>(static_cast<int32_t>(random() >> 8) - (1 << 23)) * 0x1p-23f * scale;
  return values;
}

inline std::vector<uint16_t> to_bf16(const std::vector<float>& values) {
  std::vector<uint16_t> bits;
  for (const float value : values) bits.push_back(f32_to_bf16(value));
  return bits;
}

}  // namespace apar::test
