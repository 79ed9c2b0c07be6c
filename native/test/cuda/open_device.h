#pragma once

#include <cstdint>
#include <memory>

#include "ops/cuda/device/device.h"
#include "ops/cuda/device/nccl.h"

namespace apar::cuda {

// The device that the tests run on: the emulator here, the GPU in the build for one. The same tests
// hold on both.
std::unique_ptr<Device> open_test_device(int32_t index = 0);

// For tests of several devices that share a model: NCCL, which beside the emulator is played within the
// process, and how many devices there are to try.
const Nccl& test_nccl();
int32_t num_test_devices();

}  // namespace apar::cuda
