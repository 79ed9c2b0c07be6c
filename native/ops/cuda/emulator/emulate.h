#pragma once

// The parts of CUDA C++ that our kernels use, implemented on the host. The threads of a block are fibers that
// run one after another and synchronise at barriers. Blocks run one after another. A test can choose the
// order of both. The emulator detects barriers that not all threads reach, reads of shared memory that was
// never written (it starts as NaN), reads of data whose asynchronous copy has not been waited for, and, by
// running the threads in the opposite order, missing barriers.

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

namespace apar::cuda::emulate {

constexpr int kWarpSize = 32;
constexpr int32_t kBlocksAtOnce = 7;  // few, so that each block computes several items

struct Index {
  uint32_t x = 0, y = 0, z = 0;
};

// The values of threadIdx, blockIdx, blockDim and gridDim of the running thread. This and the rest of the
// emulator's state are per OS thread, so that every OS thread can run its own device.
struct Position {
  Index thread, block, block_size, grid;
};
extern constinit thread_local Position position;

// The order in which the ready threads of a block, and the blocks of a grid, run.
enum class Order { forward, backward };
extern Order order;

// Runs thread() for every thread of every block. Throws std::logic_error on a deadlock and on any error that
// fail() reports.
void run_grid(Index grid, uint32_t threads, size_t shared_bytes, const std::function<void()>& thread);

// What happens around the threads' wait for the earlier kernels, in the first and the last block: begins() is
// called before the threads start, go_on() when all of them wait.
struct Overlap {
  std::function<void()> begins, go_on;
};
// The same for a kernel that may begin early. Fails unless every thread calls wait_for_earlier_kernels().
void run_overlapping(Index grid, uint32_t threads, size_t shared_bytes, const std::function<void()>& thread,
                     const Overlap& overlap);
void wait_for_earlier_kernels();

// Runs the work immediately, or records it while the stream is capturing (emulated_device.h).
void enqueue(void* stream, std::function<void()> work);
// Enqueues run_overlapping(). What kernels may write cannot be accessed before the threads of a block wait.
void enqueue_overlapping(void* stream, Index grid, uint32_t threads, size_t shared_bytes,
                         std::function<void()> thread);
unsigned char* shared_memory();

void sync_block();
// The barrier with this number, from 1 to 15, for `threads` threads of the block.
void sync_threads(int barrier, int threads);
// Synchronises all lanes of a warp. The last lane to arrive runs `combine` over the inputs and outputs of all
// lanes. `kind` names the operation: it is an error if lanes execute different ones.
using Combine = void (*)(const void* const* in, void* const* out);
void sync_warp(const char* kind, const void* in, void* out, Combine combine);

// For the other files of the emulator. running_warp(): the warp of the running thread. progress(): a waiting
// thread may be able to continue. let_others_run(): returns after every other warp has run as far as it can.
// fail(): ends the run with an error, the first of several. check_shared(): fails and returns false
// unless an access is aligned and within shared memory.
int running_warp();
void progress();
void let_others_run();
void fail(const char* what);
bool check_shared(const void* at, size_t bytes, size_t alignment);

// The asynchronous copies of the running thread (cp.async).
void copy_async(void* shared, const void* global, size_t bytes, bool valid);
void copy_commit();
void copy_wait(int groups_left);

template <class T>
T shuffle_xor(T value, int mask) {
  struct In {
    T value;
    int mask;
  } in{value, mask};
  T out;
  sync_warp("shuffle_xor", &in, &out, [](const void* const* ins, void* const* outs) {
    for (int lane = 0; lane < kWarpSize; ++lane) {
      const auto* const mine = static_cast<const In*>(ins[lane]);
      *static_cast<T*>(outs[lane]) = static_cast<const In*>(ins[lane ^ mine->mask])->value;
    }
  });
  return out;
}

// Bit i is the value of lane i.
inline uint32_t ballot(bool value) {
  uint32_t out;
  sync_warp("ballot", &value, &out, [](const void* const* ins, void* const* outs) {
    uint32_t bits = 0;
    for (int lane = 0; lane < kWarpSize; ++lane)
      bits |= uint32_t{*static_cast<const bool*>(ins[lane])} << lane;
    for (int lane = 0; lane < kWarpSize; ++lane) *static_cast<uint32_t*>(outs[lane]) = bits;
  });
  return out;
}

template <class T>
T shuffle(T value, int from) {
  struct In {
    T value;
    int from;
  } in{value, from};
  T out;
  sync_warp("shuffle", &in, &out, [](const void* const* ins, void* const* outs) {
    for (int lane = 0; lane < kWarpSize; ++lane) {
      const auto* const mine = static_cast<const In*>(ins[lane]);
      *static_cast<T*>(outs[lane]) = static_cast<const In*>(ins[mine->from % kWarpSize])->value;
    }
  });
  return out;
}

// A butterfly over the lanes: every lane gets the value of one tree, with the operands of lane i ^ 16, i ^ 8,
// ...
template <class T, class Add>
T reduce_warp(const char* kind, T value, Add) {
  T out;
  sync_warp(kind, &value, &out, [](const void* const* ins, void* const* outs) {
    T values[kWarpSize], next[kWarpSize];
    for (int lane = 0; lane < kWarpSize; ++lane) values[lane] = *static_cast<const T*>(ins[lane]);
    for (int mask = kWarpSize / 2; mask > 0; mask /= 2) {
      for (int lane = 0; lane < kWarpSize; ++lane) next[lane] = Add{}(values[lane], values[lane ^ mask]);
      std::memcpy(values, next, sizeof(values));
    }
    for (int lane = 0; lane < kWarpSize; ++lane) *static_cast<T*>(outs[lane]) = values[lane];
  });
  return out;
}

}  // namespace apar::cuda::emulate

#define threadIdx (::apar::cuda::emulate::position.thread)
#define blockIdx (::apar::cuda::emulate::position.block)
#define blockDim (::apar::cuda::emulate::position.block_size)
#define gridDim (::apar::cuda::emulate::position.grid)

inline void __syncthreads() {
  ::apar::cuda::emulate::sync_block();
}
inline void __syncwarp() {
  ::apar::cuda::emulate::sync_warp("syncwarp", nullptr, nullptr, [](const void* const*, void* const*) {});
}
inline void __threadfence() {}
template <class T>
T __shfl_xor_sync(uint32_t, T value, int mask) {
  return ::apar::cuda::emulate::shuffle_xor(value, mask);
}
template <class T>
T __shfl_sync(uint32_t, T value, int lane) {
  return ::apar::cuda::emulate::shuffle(value, lane);
}
inline uint32_t __ballot_sync(uint32_t, bool value) {
  return ::apar::cuda::emulate::ballot(value);
}
inline int __popc(uint32_t bits) {
  return std::popcount(bits);
}
// The position of the lowest bit that is set, counted from 1; 0 if none is set.
inline int __ffs(int bits) {
  return bits == 0 ? 0 : std::countr_zero(static_cast<uint32_t>(bits)) + 1;
}
template <class T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
T atomicAdd(T* at, T value) {
  const T before = *at;
  *at += value;
  return before;
}

struct float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
inline float2 make_float2(float x, float y) {
  return {x, y};
}
inline float4 make_float4(float x, float y, float z, float w) {
  return {x, y, z, w};
}
inline uint2 make_uint2(uint32_t x, uint32_t y) {
  return {x, y};
}
inline float __fadd_rn(float a, float b) {
  return a + b;
}
inline float __ldcg(const float* from) {
  return *from;
}
inline float __fmul_rn(float a, float b) {
  return a * b;
}
inline float __fdividef(float a, float b) {
  return a / b;
}
inline float __uint_as_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
// Nibble i of `selector` selects byte i of the result: 0 to 3 from a, 4 to 7 from b.
inline uint32_t __byte_perm(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = a | static_cast<uint64_t>(b) << 32;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i)
    result |= static_cast<uint32_t>(bytes >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
  return result;
}
inline uint32_t __float_as_uint(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}
