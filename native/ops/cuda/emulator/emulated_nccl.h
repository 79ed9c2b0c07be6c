#pragma once

#include "ops/cuda/device/nccl.h"

namespace apar::cuda {

// NCCL for emulated devices, one OS thread each: what is gathered lies in the host's memory.
const Nccl& emulated_nccl();

}  // namespace apar::cuda
