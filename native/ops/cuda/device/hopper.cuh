#pragma once

// The instructions of sm_90a for matrix products (PTX ISA 8.0 and later): mbarriers in shared memory, bulk
// copies that signal them, and wgmma. ops/cuda/emulator/emulate_hopper.h has the host version of each.

#include "ops/cuda/device/intrinsics.cuh"
#ifdef __CUDACC__
#include <cudaTypedefs.h>
#else
#include "ops/cuda/emulator/emulate_hopper.h"
#endif

namespace apar::cuda {

constexpr int kSwizzleRowBytes = 128;     // of one output or row in a tile
constexpr int kSwizzleGroupBytes = 1024;  // of eight rows; tiles begin at a multiple of this

// The matrix descriptor of a tile [outputs or rows][64 inputs] of bf16 in shared memory, 128 bytes a row
// (PTX ISA, "Asynchronous Warpgroup Level Matrix Shared Memory Layout", "Matrix Descriptor Format"):
//   bits 0-13   address / 16; for the inputs from 16 * step on, it is 32 * step bytes further within the
//   first row bits 16-29  offset of the leading dimension / 16: not used by swizzled layouts whose rows run
//   along the inputs bits 32-45  offset of the stride dimension / 16: from eight rows to the next eight bits
//   49-51  base offset: 0, because tiles begin where the pattern of the swizzle begins bits 62-63  1:
//   128-byte swizzle, which xors bits 4-6 of an address with its bits 7-9
constexpr uint64_t matrix_descriptor(uint32_t shared_address, int step) {
  return (((shared_address & 0x3ffffu) >> 4) + static_cast<uint64_t>(step) * 2) | uint64_t{1} << 16 |
         uint64_t{kSwizzleGroupBytes / 16} << 32 | uint64_t{1} << 62;
}

#ifdef __CUDACC__

using TensorMap = CUtensorMap;

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define APAR_HOPPER 1
#else
#define APAR_HOPPER 0
#endif

#if APAR_HOPPER

// A phase of the barrier ends when `arrivals` threads have arrived and all expected bytes have been copied.
__device__ inline void barrier_init(uint64_t* barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals)
               : "memory");
}
// Makes this thread's writes to shared memory, barriers included, visible to bulk copies and wgmma.
__device__ inline void fence_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ inline void barrier_arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
__device__ inline void barrier_arrive_expect(uint64_t* barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(bytes)
               : "memory");
}
// Waits until the phase with this parity (0 for the first, then 1, 0, ...) has ended. Before the first phase
// ends, the phase with parity 1 counts as ended.
__device__ inline void barrier_wait(uint64_t* barrier, uint32_t parity) {
  uint32_t done = 0;
  while (done == 0)
    asm volatile(
        "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
        : "=r"(done)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
}

// Copies `bytes` and signals the barrier. Addresses and bytes must be multiples of 16.
__device__ inline void bulk_copy(void* shared, const void* global, uint32_t bytes, uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          shared_address(shared)),
      "l"(global), "r"(bytes), "r"(shared_address(barrier))
      : "memory");
}
// Copies the map's box at (input, row), with zeros outside the tensor. Signals the bytes of the whole box.
__device__ inline void box_copy(void* shared, const TensorMap& map, int input, int row, uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
      "%3}], [%4];" ::"r"(shared_address(shared)),
      "l"(&map), "r"(input), "r"(row), "r"(shared_address(barrier))
      : "memory");
}

// Waits at the barrier with this number, from 1 to 15, for `threads` threads of the block in whole warps.
__device__ inline void sync_threads(int barrier, int threads) {
  asm volatile("barrier.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// Changes the number of registers that each thread of a warpgroup may use: gives some back to the block, or
// takes what others have given back, and waits for it. The block begins with as many as its launch bounds
// allow. A multiple of 8 from 24 to 256.
template <int kRegisters>
__device__ inline void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// Required before a warpgroup's first wgmma and after other accesses to the registers of a wgmma.
__device__ inline void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
// Makes a group of all wgmma that the warpgroup has issued and not yet committed.
__device__ inline void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits until at most kGroups groups, the latest, are in flight. Until its group has been waited for, a wgmma
// may still read its operands and write its sums, in shared memory and in registers.
template <int kGroups>
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kGroups) : "memory");
}
// Keeps the compiler from moving uses of the sums across this point.
template <int kSums>
__device__ inline void pin(float (&sums)[kSums]) {
#pragma unroll
  for (int i = 0; i < kSums; ++i) asm volatile("" : "+f"(sums[i])::"memory");
}

#define APAR_D8(i)                                                                            \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define APAR_D16 APAR_D8(0), APAR_D8(8)
#define APAR_D32 APAR_D16, APAR_D8(16), APAR_D8(24)
#define APAR_D64 APAR_D32, APAR_D8(32), APAR_D8(40), APAR_D8(48), APAR_D8(56)
#define APAR_D96 APAR_D64, APAR_D8(64), APAR_D8(72), APAR_D8(80), APAR_D8(88)
#define APAR_D128 APAR_D96, APAR_D8(96), APAR_D8(104), APAR_D8(112), APAR_D8(120)
#define APAR_S16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define APAR_S32 APAR_S16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define APAR_S64                                                                       \
  APAR_S32                                                                             \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define APAR_S96                                                                       \
  APAR_S64                                                                             \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define APAR_S128                                                                                  \
  APAR_S96                                                                                         \
  ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define APAR_WGMMA(rows, sums, operands, accumulates)                                                       \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %" accumulates ", 0; wgmma.mma_async.sync.aligned.m64n" rows \
               "k16.f32.bf16.bf16 {" sums "}, " operands "; }"

// d[64 outputs, kRows] = a · b over 16 inputs, plus d if it accumulates, with a [64 outputs] and b [kRows
// rows] given by descriptors. Executed by 128 threads. d has the layout of mma_bf16()'s c, repeated for every
// 8 rows.
template <int kRows>
__device__ inline void wgmma(float (&d)[kRows / 2], uint64_t a, uint64_t b) {
  static_assert(kRows == 32 || kRows == 64 || kRows == 128 || kRows == 192 || kRows == 256);
  if constexpr (kRows == 32)
    APAR_WGMMA("32", APAR_S16, "%16, %17, p, 1, 1, 0, 0", "18") : APAR_D16 : "l"(a), "l"(b), "n"(1));
  else if constexpr (kRows == 64)
    APAR_WGMMA("64", APAR_S32, "%32, %33, p, 1, 1, 0, 0", "34") : APAR_D32 : "l"(a), "l"(b), "n"(1));
  else if constexpr (kRows == 128)
    APAR_WGMMA("128", APAR_S64, "%64, %65, p, 1, 1, 0, 0", "66") : APAR_D64 : "l"(a), "l"(b), "n"(1));
  else if constexpr (kRows == 192)
    APAR_WGMMA("192", APAR_S96, "%96, %97, p, 1, 1, 0, 0", "98") : APAR_D96 : "l"(a), "l"(b), "n"(1));
  else
    APAR_WGMMA("256", APAR_S128, "%128, %129, p, 1, 1, 0, 0", "130") : APAR_D128 : "l"(a), "l"(b), "n"(1));
}
// The same with a in registers; each warp's 16 outputs have the layout of mma_bf16()'s a.
template <int kRows, bool kAccumulates = true>
__device__ inline void wgmma(float (&d)[kRows / 2], const uint32_t (&a)[4], uint64_t b) {
  static_assert(kRows == 32 || kRows == 64 || kRows == 128);
  if constexpr (kRows == 32)
    APAR_WGMMA("32", APAR_S16, "{%16, %17, %18, %19}, %20, p, 1, 1, 0", "21")
                 : APAR_D16
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAccumulates ? 1 : 0));
  else if constexpr (kRows == 64)
    APAR_WGMMA("64", APAR_S32, "{%32, %33, %34, %35}, %36, p, 1, 1, 0", "37")
                 : APAR_D32
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAccumulates ? 1 : 0));
  else
    APAR_WGMMA("128", APAR_S64, "{%64, %65, %66, %67}, %68, p, 1, 1, 0", "69")
        : APAR_D64
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAccumulates ? 1 : 0));
}

#undef APAR_WGMMA
#undef APAR_S128
#undef APAR_S96
#undef APAR_S64
#undef APAR_S32
#undef APAR_S16
#undef APAR_D128
#undef APAR_D96
#undef APAR_D64
#undef APAR_D32
#undef APAR_D16
#undef APAR_D8

#endif

// A tensor map of x [rows, in] in bf16. Its boxes are 64 inputs x box_rows rows, in the shared memory layout
// of matrix_descriptor(). in is a multiple of 8.
inline TensorMap make_tensor_map(const uint16_t* x, int32_t rows, int32_t in, int32_t box_rows) {
  // Looked up through the runtime, so that the library does not link to the driver.
  static const auto encode = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result{};
    constexpr const char* kName = "cuTensorMapEncodeTiled";
#if CUDART_VERSION >= 12050
    check(cudaGetDriverEntryPointByVersion(kName, &found, 12000, cudaEnableDefault, &result), kName);
#else
    check(cudaGetDriverEntryPoint(kName, &found, cudaEnableDefault, &result), kName);
#endif
    if (result != cudaDriverEntryPointSuccess || found == nullptr)
      throw Error(ErrorCode::unavailable, "the driver has no cuTensorMapEncodeTiled");
    return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(found);
  }();
  TensorMap map{};
  const cuuint64_t size[2] = {static_cast<cuuint64_t>(in), static_cast<cuuint64_t>(rows)};
  const cuuint64_t row_bytes[1] = {size[0] * sizeof(uint16_t)};
  const cuuint32_t box[2] = {kSwizzleRowBytes / sizeof(uint16_t), static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t every[2] = {1, 1};
  const CUresult status =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<uint16_t*>(x), size, row_bytes, box, every,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS)
    throw Error(ErrorCode::internal, "cuTensorMapEncodeTiled: error " + std::to_string(status));
  return map;
}

#else

#define APAR_HOPPER 1

using emulate::barrier_arrive;
using emulate::barrier_arrive_expect;
using emulate::barrier_init;
using emulate::barrier_wait;
using emulate::box_copy;
using emulate::bulk_copy;
using emulate::fence_async;
using emulate::give_registers;
using emulate::shared_address;
using emulate::sync_threads;
using emulate::take_registers;
using emulate::TensorMap;
using emulate::wgmma;
using emulate::wgmma_commit;
using emulate::wgmma_fence;
using emulate::wgmma_wait;
template <int kSums>
inline void pin(float (&)[kSums]) {}
inline TensorMap make_tensor_map(const uint16_t* x, int32_t rows, int32_t in, int32_t box_rows) {
  return {x, rows, in, box_rows};
}

#endif

}  // namespace apar::cuda
