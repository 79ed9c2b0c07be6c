#pragma once

#include <cstdint>
#include <memory>

#include "ops/cuda/device/device.h"

namespace apar::cuda {

// Devices that the driver shows, at least one. Throws Error{unavailable} where there is none, or no driver.
int32_t cuda_device_count();

// The device of this number, for the calling thread: from then on it launches there, and others may not use
// the result. Throws Error{unavailable} where there is none, or one older than sm_80.
std::unique_ptr<Device> open_cuda_device(int32_t index = 0);

}  // namespace apar::cuda
