#pragma once

#include "ops/cuda/device/intrinsics.cuh"

namespace apar::cuda {

// Conversions of e4m3 (common/float8.h) with integer operations, the same on every device: sm_80 has no
// instruction for them.

// Converts the e4m3 in the upper byte of each half to a bf16 that is too small by a factor of 2^120; this
// includes subnormal numbers. The lower bytes are ignored.
__device__ inline uint32_t e4m3_small_pair(uint32_t upper) {
  return (upper & 0x80008000u) | ((upper >> 4) & 0x07f007f0u);
}
__device__ inline float e4m3_small(uint8_t bits) {
  return bf16_low(e4m3_small_pair(static_cast<uint32_t>(bits) << 8));
}

// Rounds to nearest even. Values beyond the largest e4m3 become the largest.
__device__ inline uint8_t e4m3_bits(float value) {
  const uint32_t bits = __float_as_uint(value), magnitude = bits & 0x7fffffffu;
  // Below 2^-6 an e4m3 is a multiple of 2^-9, which is also the unit in the last place of a sum with 2^14.
  const uint32_t rounded =
      magnitude < 0x3c800000u
          ? __float_as_uint(__uint_as_float(magnitude) + 16384.0f) - __float_as_uint(16384.0f)
          : (magnitude - 0x3c000000u + 0x7ffffu + ((magnitude >> 20) & 1u)) >> 20;
  return static_cast<uint8_t>((bits >> 24 & 0x80u) | (rounded < 0x7eu ? rounded : 0x7eu));
}

}  // namespace apar::cuda
