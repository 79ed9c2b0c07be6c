// Compiled with FEAT_DotProd and FEAT_I8MM. Nothing here may be shared with other files: no templates or
// inline functions of the standard library, or the linker might keep this file's copy of one for every
// processor.
#include <arm_neon.h>

#include "ops/cpu/kernels.h"
#include "ops/cpu/packed.h"

namespace apar::cpu {
namespace {

#include "ops/cpu/neon/operands.inl"
// After its operands.
#include "ops/cpu/neon/bf16_product.inl"
#include "ops/cpu/neon/dots_i8mm.inl"
// After the products.
#include "ops/cpu/neon/kernels.inl"

}  // namespace

constinit const Kernels neon_i8mm_kernels = kKernels;

}  // namespace apar::cpu
