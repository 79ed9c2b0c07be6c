#pragma once

#include <memory>
#include <span>

#include "ops/device_memory.h"
#include "ops/ops.h"

namespace apar {

// The CUDA backend is a shared library that is opened at run time, so that the engine starts on machines
// without CUDA. The library and the engine are built from one source tree, with the same C++ types. This
// number detects a library of another build.
constexpr int kCudaLibraryVersion = 8;

// The C functions that the library exports. They write errors to `code` (an ErrorCode) and `message`.
extern "C" {
using AparCudaVersion = int();
using AparCudaMemory = DeviceMemory*(int32_t device, int32_t ranks, int* code, char* message,
                                     size_t message_bytes);
using AparMakeCudaOps = Ops*(const OpsConfig* config, const int32_t* devices, size_t num_devices, int* code,
                             char* message, size_t message_bytes);
}

// Opens Ops on the first CUDA device. If `devices` is not empty, these devices share the model over NCCL
// (ops/sharded/sharded_ops.h), even if it names only one. Throws Error{unavailable} when the library, a
// device or NCCL is missing, otherwise what CudaOps and ShardedOps throw.
std::unique_ptr<Ops> make_cuda_ops(const OpsConfig& config, std::span<const int32_t> devices = {});

// The memory of a CUDA device, one of `ranks` that share a model. Throws Error{unavailable} as above.
std::unique_ptr<DeviceMemory> cuda_memory(int32_t device, int32_t ranks);

}  // namespace apar
