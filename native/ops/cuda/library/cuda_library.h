#pragma once

#include <memory>
#include <span>

#include "ops/ops.h"

namespace apar {

// The CUDA backend is a shared library of its own, opened at run time: the engine starts where no CUDA is.
// Both are built from one source tree and checked against each other by this number; the C++ types that cross
// are the same on both sides.
constexpr int kCudaLibraryVersion = 5;

// What the library exports, as C functions. An error is written to `code` (an ErrorCode) and `message`.
extern "C" {
using AparCudaVersion = int();
using AparCudaBlocks = int(const OpsConfig* config, uint64_t other_bytes, int32_t device, int* code,
                           char* message, size_t message_bytes);
using AparMakeCudaOps = Ops*(const OpsConfig* config, const int32_t* devices, size_t num_devices, int* code,
                             char* message, size_t message_bytes);
}

// Ops on the first CUDA device, or, if `devices` is not empty, on these together over NCCL
// (ops/sharded/sharded_ops.h), one alone included. Throws Error{unavailable} where the library, a device or
// NCCL is missing, otherwise what CudaOps and ShardedOps throw.
std::unique_ptr<Ops> make_cuda_ops(const OpsConfig& config, std::span<const int32_t> devices = {});

// KV blocks that fit the free memory of a CUDA device beside other_bytes (weights, activations) and what the
// device itself needs for config.max_rows rows, 0 when not one does. Throws Error{unavailable} likewise.
int32_t affordable_cuda_blocks(const OpsConfig& config, uint64_t other_bytes, int32_t device = 0);

}  // namespace apar
