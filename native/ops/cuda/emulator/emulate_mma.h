#pragma once

#include <cstdint>

namespace apar::cuda::emulate {

// mma.sync.m16n8k16 and ldmatrix.x4 for a whole warp, as described in ops/cuda/device/intrinsics.cuh.
void mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
void load_matrices(uint32_t (&out)[4], const void* row, bool transposed);

}  // namespace apar::cuda::emulate
