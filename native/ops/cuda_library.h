#pragma once

#include <memory>

#include "ops/ops.h"

namespace apar {

// The CUDA backend is a shared library of its own, opened at run time: the engine starts where no CUDA is.
// Both are built from one source tree and checked against each other by this number; the C++ types that cross
// are the same on both sides.
constexpr int kCudaLibraryVersion = 2;

// What the library exports, as C functions. An error is written to `code` (an ErrorCode) and `message`.
extern "C" {
using AparCudaVersion = int();
using AparCudaBlocks = int(const OpsConfig* config, uint64_t other_bytes, int* code, char* message,
                           size_t message_bytes);
using AparMakeCudaOps = Ops*(const OpsConfig* config, int* code, char* message, size_t message_bytes);
}

// Ops on the first CUDA device. Throws Error{unavailable} where the library is missing or finds no device,
// otherwise what CudaOps throws.
std::unique_ptr<Ops> make_cuda_ops(const OpsConfig& config);

// KV blocks that fit the free memory of the first CUDA device beside other_bytes (weights, activations), 0
// when not one does. Throws Error{unavailable} likewise.
int32_t affordable_cuda_blocks(const OpsConfig& config, uint64_t other_bytes);

}  // namespace apar
