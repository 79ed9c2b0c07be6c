#pragma once

// The parts of CUDA that the kernels use. nvcc compiles the kernels for a device. The tests compile the same
// files for the host, where ops/cuda/emulator/emulate.h runs the threads of a block as fibers.

#include <cstddef>
#include <cstdint>

#include "ops/cuda/device/platform_types.h"

#ifdef __CUDACC__

#include <cuda_runtime.h>

#include <string>

#include "common/error.h"

namespace apar::cuda {

inline ErrorCode code_of(cudaError_t status) {
  switch (status) {
    case cudaErrorMemoryAllocation:
      return ErrorCode::out_of_memory;
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorJitCompilerNotFound:
      return ErrorCode::unavailable;
    default:
      return ErrorCode::internal;
  }
}

inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess)
    throw Error(code_of(status), std::string(what) + ": " + cudaGetErrorString(status));
}

// The block's dynamic shared memory; its size is given at launch.
__device__ inline unsigned char* shared_memory() {
  extern __shared__ __align__(1024) unsigned char apar_shared[];
  return apar_shared;
}

// Lets the kernel have more than 48 KB, the limit of any kernel that does not ask for more.
template <auto kernel>
void raise_shared_limit() {
  // The limit is per device. A static per thread is enough, because a thread launches on one device only:
  // each of several devices has its own thread (ops/sharded/sharded_ops.h).
  static thread_local const bool raised = [] {
    int device = 0, max = 0;
    check(cudaGetDevice(&device), "cudaGetDevice");
    check(cudaDeviceGetAttribute(&max, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
          "shared memory limit");
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, max),
          "shared memory limit");
    return true;
  }();
  static_cast<void>(raised);
}

// The number of blocks of a kernel that the device runs at the same time; 0 if none fits.
template <auto kernel>
int32_t fitting_blocks(uint32_t threads, size_t shared_bytes) {
  raise_shared_limit<kernel>();
  int device = 0, multiprocessors = 0, blocks = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
        "number of multiprocessors");
  check(
      cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, static_cast<int>(threads), shared_bytes),
      "blocks of a multiprocessor");
  return blocks * multiprocessors;
}

// The same for a kernel that must fit.
template <auto kernel>
int32_t blocks_at_once(uint32_t threads, size_t shared_bytes) {
  const int32_t blocks = fitting_blocks<kernel>(threads, shared_bytes);
  if (blocks == 0)
    throw Error(ErrorCode::unavailable, "a kernel needs " + std::to_string(shared_bytes) +
                                            " bytes of shared memory, more than this device has");
  return blocks;
}

template <auto kernel, class... Args>
void launch(Stream stream, Grid grid, uint32_t threads, size_t shared_bytes, Args... args) {
  raise_shared_limit<kernel>();
  if (grid.x == 0 || grid.y == 0) return;
  kernel<<<dim3(grid.x, grid.y), threads, shared_bytes, static_cast<cudaStream_t>(stream.handle)>>>(args...);
  check(cudaGetLastError(), "kernel launch");
}

// Whether the code that the device runs waits for earlier kernels: PTX below 9.0, which a driver compiles for
// a newer device, does not.
template <auto kernel>
bool waits_for_earlier_kernels() {
  static thread_local const bool waits = [] {
    cudaFuncAttributes attributes;
    check(cudaFuncGetAttributes(&attributes, kernel), "attributes of a kernel");
    return attributes.ptxVersion >= 90;
  }();
  return waits;
}

// Launches a kernel that calls wait_for_earlier_kernels() (overlap.cuh).
template <auto kernel, class... Args>
void launch_overlapping(Stream stream, Grid grid, uint32_t threads, size_t shared_bytes, Args... args) {
  if (!stream.overlaps || !waits_for_earlier_kernels<kernel>())
    return launch<kernel>(stream, grid, threads, shared_bytes, args...);
  raise_shared_limit<kernel>();
  if (grid.x == 0 || grid.y == 0) return;
  cudaLaunchAttribute early = {};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(grid.x, grid.y);
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream.handle);
  config.attrs = &early;
  config.numAttrs = 1;
  check(cudaLaunchKernelEx(&config, kernel, args...), "kernel launch");
}

}  // namespace apar::cuda

#else

#include "ops/cuda/emulator/emulate.h"

namespace apar::cuda {

inline unsigned char* shared_memory() {
  return emulate::shared_memory();
}

template <auto kernel>
int32_t fitting_blocks(uint32_t /*threads*/, size_t /*shared_bytes*/) {
  return emulate::kBlocksAtOnce;
}
template <auto kernel>
int32_t blocks_at_once(uint32_t /*threads*/, size_t /*shared_bytes*/) {
  return emulate::kBlocksAtOnce;
}

template <auto kernel, class... Args>
void launch(Stream stream, Grid grid, uint32_t threads, size_t shared_bytes, Args... args) {
  emulate::enqueue(stream.handle, [=] {
    emulate::run_grid({grid.x, grid.y, 1}, threads, shared_bytes, [=] { kernel(args...); });
  });
}

template <auto kernel, class... Args>
void launch_overlapping(Stream stream, Grid grid, uint32_t threads, size_t shared_bytes, Args... args) {
  if (!stream.overlaps) return launch<kernel>(stream, grid, threads, shared_bytes, args...);
  emulate::enqueue_overlapping(stream.handle, {grid.x, grid.y, 1}, threads, shared_bytes,
                               [=] { kernel(args...); });
}

}  // namespace apar::cuda

#endif
