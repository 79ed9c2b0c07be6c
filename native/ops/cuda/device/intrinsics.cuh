#pragma once

// The PTX instructions of the kernels (sm_80), each with a host version for the emulator. Fragment layouts:
// PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type". With lane = 4 * g + t:
//
//   A  a[0]: row g, k 2t and 2t+1        a[1]: row g+8, same k
//      a[2]: row g, k 2t+8 and 2t+9      a[3]: row g+8, same k
//   B  b[0]: k 2t and 2t+1, column g     b[1]: k 2t+8 and 2t+9, column g
//   C  c[0], c[1]: row g, columns 2t and 2t+1     c[2], c[3]: row g+8, same columns

#include "ops/cuda/device/platform.h"
#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#else
#include "common/float16.h"
#include "ops/cuda/emulator/emulate_mma.h"
#endif

namespace apar::cuda {

constexpr uint32_t kFullWarp = 0xffffffffu;
constexpr int kCopyBytes = 16;  // of one asynchronous copy

__device__ inline float bf16_float(uint16_t bits) {
  return __uint_as_float(static_cast<uint32_t>(bits) << 16);
}
__device__ inline float bf16_low(uint32_t pair) {
  return __uint_as_float(pair << 16);
}
__device__ inline float bf16_high(uint32_t pair) {
  return __uint_as_float(pair & 0xffff0000u);
}

#ifdef __CUDACC__

__device__ inline uint32_t bf16_pair(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

__device__ inline uint16_t bf16_bits(float value) {
  return __bfloat16_as_ushort(__float2bfloat16_rn(value));
}

__device__ inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ inline float f16_float(uint32_t bits) {
  return __half2float(__ushort_as_half(static_cast<uint16_t>(bits)));
}

// a - b for both bf16 of a pair, rounded to bf16.
__device__ inline uint32_t bf16_pair_subtract(uint32_t a, uint32_t b) {
  const __nv_bfloat162 difference =
      __hsub2(*reinterpret_cast<const __nv_bfloat162*>(&a), *reinterpret_cast<const __nv_bfloat162*>(&b));
  return *reinterpret_cast<const uint32_t*>(&difference);
}

// a * b for both bf16 of a pair, rounded to bf16.
__device__ inline uint32_t bf16_pair_multiply(uint32_t a, uint32_t b) {
  const __nv_bfloat162 product =
      __hmul2(*reinterpret_cast<const __nv_bfloat162*>(&a), *reinterpret_cast<const __nv_bfloat162*>(&b));
  return *reinterpret_cast<const uint32_t*>(&product);
}

// Loads 16 bytes of global memory that are read only once, without keeping them in the L1 cache.
__device__ inline uint4 load_streaming(const void* global) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(global));
  return value;
}

// c += a · b, with bf16 factors and f32 sums.
__device__ inline void mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Loads four 8x8 matrices of 16-bit elements; lanes 8i ... 8i+7 pass the row addresses of matrix i. Lane 4g+t
// gets row g, columns 2t and 2t+1.
__device__ inline void load_matrices(uint32_t (&out)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared_address(row))
               : "memory");
}

// The same, with each matrix transposed: lane 4g+t gets column g, rows 2t and 2t+1.
__device__ inline void load_matrices_transposed(uint32_t (&out)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared_address(row))
               : "memory");
}

// Copies 16 bytes to shared memory; if not valid, writes zeros and reads nothing. Both pointers are aligned
// to 16.
__device__ inline void copy_async(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(valid ? 16 : 0)
               : "memory");
}
// The same for 4 bytes, with both pointers aligned to 4.
__device__ inline void copy_async_word(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(valid ? 4 : 0)
               : "memory");
}
__device__ inline void copy_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most `groups` of this thread's committed groups are pending.
template <int groups>
__device__ inline void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
}

#else

inline uint16_t bf16_bits(float value) {
  return f32_to_bf16(value);
}
inline uint32_t bf16_pair(float low, float high) {
  return bf16_bits(low) | static_cast<uint32_t>(bf16_bits(high)) << 16;
}
inline float f16_float(uint32_t bits) {
  return f16_to_f32(static_cast<uint16_t>(bits));
}
inline uint32_t bf16_pair_subtract(uint32_t a, uint32_t b) {
  return bf16_pair(bf16_low(a) - bf16_low(b), bf16_high(a) - bf16_high(b));
}
inline uint32_t bf16_pair_multiply(uint32_t a, uint32_t b) {
  return bf16_pair(bf16_low(a) * bf16_low(b), bf16_high(a) * bf16_high(b));
}
inline uint4 load_streaming(const void* global) {
  return *static_cast<const uint4*>(global);
}
inline void mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emulate::mma_bf16(c, a, b0, b1);
}
inline void load_matrices(uint32_t (&out)[4], const void* row) {
  emulate::load_matrices(out, row, false);
}
inline void load_matrices_transposed(uint32_t (&out)[4], const void* row) {
  emulate::load_matrices(out, row, true);
}
inline void copy_async(void* shared, const void* global, bool valid) {
  emulate::copy_async(shared, global, kCopyBytes, valid);
}
inline void copy_async_word(void* shared, const void* global, bool valid) {
  emulate::copy_async(shared, global, 4, valid);
}
inline void copy_commit() {
  emulate::copy_commit();
}
template <int groups>
inline void copy_wait() {
  emulate::copy_wait(groups);
}

#endif

#ifdef __CUDACC__

// The sum over a warp, with the same bits in every lane.
__device__ inline float warp_sum(float value) {
  for (int mask = 16; mask > 0; mask /= 2) value += __shfl_xor_sync(kFullWarp, value, mask);
  return value;
}
__device__ inline float warp_max(float value) {
  for (int mask = 16; mask > 0; mask /= 2) value = fmaxf(value, __shfl_xor_sync(kFullWarp, value, mask));
  return value;
}

#else

// The same additions, but the lanes meet once instead of five times: most of the emulator's time is there.
inline float warp_sum(float value) {
  return emulate::reduce_warp("warp_sum", value, [](float a, float b) { return a + b; });
}
inline float warp_max(float value) {
  return emulate::reduce_warp("warp_max", value, [](float a, float b) { return std::fmax(a, b); });
}

#endif

}  // namespace apar::cuda
