// Compiled with AVX-512 F, BW, VL, DQ, VNNI and BF16. Nothing here may be shared with other files: no
// templates or inline functions of the standard library, or the linker might keep this file's copy of one for
// every processor.
#include <immintrin.h>

#include "ops/cpu/kernels.h"
#include "ops/cpu/packed.h"

namespace apar::cpu {
namespace {

#include "ops/cpu/avx512_bf16_dots.inl"
// After the dot products.
#include "ops/cpu/simd_kernels.inl"

}  // namespace

constinit const Kernels avx512_bf16_kernels = kKernels;

}  // namespace apar::cpu
