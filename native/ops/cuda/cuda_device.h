#pragma once

#include <memory>

#include "ops/cuda/device.h"

namespace apar::cuda {

// The first CUDA device. Throws Error{unavailable} where there is none, no driver, or one older than sm_80.
std::unique_ptr<Device> open_cuda_device();

}  // namespace apar::cuda
