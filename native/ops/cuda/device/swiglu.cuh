#pragma once

#include "ops/cuda/device/platform.h"

namespace apar::cuda {

// silu(gate) * up (arXiv 2002.05202), with the same bits in every kernel: each operation is rounded by
// itself. The fast division errs by up to two units in the last place. The exact one calls a function, for
// which a matrix product would have to store its registers.
__device__ inline float swiglu_of(float gate, float up) {
  return __fmul_rn(__fdividef(gate, __fadd_rn(1.0f, expf(-gate))), up);
}

}  // namespace apar::cuda
