// Compiled with AVX-512 F, BW, VL, DQ, VNNI and BF16, and AMX. Nothing here may be shared with other files:
// no templates or inline functions of the standard library, or the linker might keep this file's copy of one
// for every processor.
#include <immintrin.h>

#include "ops/cpu/kernels.h"
#include "ops/cpu/packed.h"

namespace apar::cpu {
namespace {

#include "ops/cpu/avx512_bf16_dots.inl"
// After the dot products.
#include "ops/cpu/simd_target.inl"
// Before those that use it.
#include "ops/cpu/simd_attention.inl"
#include "ops/cpu/simd_elementwise.inl"
#include "ops/cpu/simd_matmul.inl"
#include "ops/cpu/simd_panel.inl"
// After the panels.
#include "ops/cpu/simd_int_product.inl"
// After the products.
#include "ops/cpu/simd_packed.inl"
// After multiply() and scores(), which they specialise.
#include "ops/cpu/amx/tiles.inl"
// After the tiles.
#include "ops/cpu/amx/bf16_product.inl"
#include "ops/cpu/amx/scores.inl"
// After the kernels that it lists.
#include "ops/cpu/kernel_table.inl"

}  // namespace

constinit const Kernels amx_kernels = kKernels;

}  // namespace apar::cpu
