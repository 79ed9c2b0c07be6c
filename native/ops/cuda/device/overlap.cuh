#pragma once

// Programmatic dependent launch (docs/adr/0086): a kernel that launch_overlapping() launches may begin while
// earlier kernels still run, as soon as each of their blocks has called let_next_kernel_begin() or has ended.
//
// Until a thread has called wait_for_earlier_kernels() it may read only what no kernel writes: weights,
// rotary angles, its parameters. It may write only shared memory. Every thread must call it, so that the
// kernels that have ended when a kernel goes on are not only the last one before it, but all. Pointers to
// what kernels write must not be `__restrict__`: the compiler could then move a load over the wait.

#include "ops/cuda/device/platform.h"

namespace apar::cuda {

#ifdef __CUDACC__

__device__ inline void wait_for_earlier_kernels() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ inline void let_next_kernel_begin() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

#else

inline void wait_for_earlier_kernels() {
  emulate::wait_for_earlier_kernels();
}
inline void let_next_kernel_begin() {}

#endif

// For kernels that have nothing to do before the earlier ones have ended.
__device__ inline void begin_overlapping() {
  let_next_kernel_begin();
  wait_for_earlier_kernels();
}

}  // namespace apar::cuda
