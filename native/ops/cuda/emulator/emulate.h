#pragma once

// The part of CUDA's language that our kernels use, on the host: the threads of a block are fibers that run
// one after another and meet at barriers. Blocks run one after another, in an order that a test can choose.
// What it finds: barriers that not all threads reach, reads of shared memory that nobody wrote (it starts as
// NaN), data used before its asynchronous copy was waited for, and, by running the threads in the opposite
// order, missing barriers.

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
constexpr int32_t kBlocksAtOnce = 7;  // few, so that blocks take items in turn

struct Index {
  uint32_t x = 0, y = 0, z = 0;
};

// What a running thread sees as threadIdx, blockIdx, blockDim, gridDim. Every OS thread can run a device of
// its own: this and the rest of the emulator's state are per OS thread.
struct Position {
  Index thread, block, block_size, grid;
};
extern constinit thread_local Position position;

// In which order the ready threads of a block, and the blocks of a grid, run.
enum class Order { forward, backward };
extern Order order;

// Runs thread() for every thread of every block. Throws std::logic_error when some threads of a block wait
// for ever.
void run_grid(Index grid, uint32_t threads, size_t shared_bytes, const std::function<void()>& thread);
// Runs the work now, or records it when the stream is capturing (emulated_device.h).
void enqueue(void* stream, std::function<void()> work);
unsigned char* shared_memory();

void sync_block();
// All lanes of the warp meet; the last to come runs `combine` over the lanes' inputs and outputs. `kind`
// names the operation: a warp whose lanes meet in different ones is broken.
using Combine = void (*)(const void* const* in, void* const* out);
void sync_warp(const char* kind, const void* in, void* out, Combine combine);

// For other files of the emulator: the running thread's warp; that something happened for which a thread may
// be waiting; what is wrong, which ends the run; an access that must lie in shared memory.
int running_warp();
void progress();
void fail(const char* what);
bool check_shared(const void* at, size_t bytes, size_t alignment);

// Asynchronous copies of the running thread.
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

// Bit i: lane i's value.
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
// 1 for the lowest bit, 0 when none is set.
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
inline float __ldcg(const float* from) {
  return *from;
}
inline float __fmul_rn(float a, float b) {
  return a * b;
}
inline float __uint_as_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
// Nibble i of `selector` names byte i of the result: 0 to 3 of a, 4 to 7 of b.
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
