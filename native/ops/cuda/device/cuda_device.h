#pragma once

#include <cstdint>
#include <memory>

#include "ops/cuda/device/device.h"

namespace apar::cuda {

// The number of devices that the driver reports, at least one. Throws Error{unavailable} without a device or
// a driver.
int32_t cuda_device_count();

// Opens the device with this index and makes it the calling thread's current device. Only that thread may use
// the result. Throws Error{unavailable} if there is no such device or if it is older than sm_80.
std::unique_ptr<Device> open_cuda_device(int32_t index = 0);

}  // namespace apar::cuda
