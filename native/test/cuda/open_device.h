#pragma once

#include <cstdint>
#include <memory>

#include "ops/cuda/device/device.h"
#include "ops/cuda/device/nccl.h"

namespace apar::cuda {

// Opens the device that the tests run on: the emulator, or a GPU in the build for one. The same tests run on
// both.
std::unique_ptr<Device> open_test_device(int32_t index = 0);

// For tests of several devices that share a model: NCCL, which is simulated within the process for the
// emulator, and the number of devices.
const Nccl& test_nccl();
int32_t num_test_devices();

}  // namespace apar::cuda
