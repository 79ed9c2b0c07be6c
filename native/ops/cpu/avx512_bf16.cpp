// Compiled with AVX-512 F, BW, VL, DQ, VNNI and BF16. Nothing here may be shared with other files: no
// templates or inline functions of the standard library, or the linker might keep this file's copy of one for
// every processor.
#include <immintrin.h>

#include "ops/cpu/kernels.h"
#include "ops/cpu/packed.h"

namespace apar::cpu {
namespace {

#include "ops/cpu/avx512_vec.inl"

// Rounds as the instruction does, which treats bf16 subnormals as zero.
Vec dot_bf16(Vec sum, Ints w, Ints x) {
  return {_mm512_dpbf16_ps(sum.v, reinterpret_cast<__m512bh>(w.v), reinterpret_cast<__m512bh>(x.v))};
}
Ints dot_u8s8(Ints sum, Ints w, Ints x) {
  return {_mm512_dpbusd_epi32(sum.v, w.v, x.v)};
}
Ints dot_u4s8(Ints sum, Ints w, Ints x) {
  return dot_u8s8(sum, w, x);
}

#include "ops/cpu/simd_kernels.inl"

}  // namespace

constinit const Kernels avx512_bf16_kernels = kKernels;

}  // namespace apar::cpu
