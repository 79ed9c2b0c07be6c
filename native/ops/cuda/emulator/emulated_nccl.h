#pragma once

#include "ops/cuda/device/nccl.h"

namespace apar::cuda {

// NCCL for emulated devices, each of which runs in its own OS thread. All memory is host memory.
const Nccl& emulated_nccl();

}  // namespace apar::cuda
