#pragma once

#include <memory>

#include "ops/cuda/device.h"

namespace apar::cuda {

// The device that the tests run on: the emulator here, the GPU in the build for one (prove). The same tests
// hold on both.
std::unique_ptr<Device> open_test_device();

}  // namespace apar::cuda
