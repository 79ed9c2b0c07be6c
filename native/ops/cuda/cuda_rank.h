#pragma once

#include <memory>

#include "ops/cuda/device/device.h"
#include "ops/cuda/device/nccl.h"
#include "ops/sharded/sharded_ops.h"

namespace apar::cuda {

// Opens CudaOps on one of the devices that share a model, with a communicator over NCCL (docs/adr/0011).
// Throws what CudaOps throws.
Rank make_cuda_rank(const OpsConfig& config, int32_t rank, std::unique_ptr<Device> device,
                    std::shared_ptr<NcclGroup> group);

}  // namespace apar::cuda
