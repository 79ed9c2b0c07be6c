#pragma once

#include "ops/cuda/intrinsics.cuh"
#include "ops/cuda/weight_tiles.h"

namespace apar::cuda {

// A warp's A operand (16 outputs x 32 inputs, two mma steps) out of a packed tile in shared memory
// (weight_tiles.h).

struct Bf16Tiles {
  static constexpr bool kScaled = false;
  static constexpr int kBytes = tile_bytes(WeightFormat::bf16);

  __device__ static void load(uint32_t (&a)[2][4], const unsigned char* tile, int block, int half, int lane) {
    const int row = block * 16 + lane % 16;
    for (int step = 0; step < 2; ++step) {
      const int piece = (half * 2 + step) * 2 + lane / 16;
      load_matrices(a[step], tile + row * 128 + ((piece ^ (row % 8)) << 4));
    }
  }
};

// Integers that fit 8 bits are exact in bf16; the scale is applied to the sums.
struct Int8Tiles {
  static constexpr bool kScaled = true;
  static constexpr int kBytes = tile_bytes(WeightFormat::int8);

  // 2^23 + byte has the byte in its lowest bits; converting instructions run at a quarter of the rate.
  __device__ static float value(uint32_t word, int byte) {
    return __uint_as_float(0x4b000000u | ((word >> 8 * byte) & 0xffu)) - 8388736.0f;
  }

  __device__ static void load(uint32_t (&a)[2][4], const unsigned char* tile, int block, int half, int lane) {
    const uint4 bytes = *reinterpret_cast<const uint4*>(tile + block * 1024 + half * 512 + lane * 16);
    const uint32_t words[4] = {bytes.x, bytes.y, bytes.z, bytes.w};
    for (int i = 0; i < 8; ++i) {
      const uint32_t word = words[i / 2];
      const uint32_t low = __float_as_uint(value(word, i % 2 * 2)),
                     high = __float_as_uint(value(word, i % 2 * 2 + 1));
      a[i / 4][i % 4] = (low >> 16) | (high & 0xffff0000u);
    }
  }
};

struct Int4Tiles {
  static constexpr bool kScaled = true;
  static constexpr int kBytes = tile_bytes(WeightFormat::int4);

  __device__ static void load(uint32_t (&a)[2][4], const unsigned char* tile, int block, int half, int lane) {
    const uint2 words = *reinterpret_cast<const uint2*>(tile + block * 512 + lane * 16 + half * 8);
    for (int step = 0; step < 2; ++step) {
      const uint32_t word = step == 0 ? words.x : words.y;
      for (int i = 0; i < 4; ++i) {
        // bf16 128 + nibble has the nibble in its lowest bits.
        const uint32_t pair = ((word >> 4 * i) & 0x000f000fu) | 0x43004300u;
        a[step][i] = bf16_pair(bf16_low(pair) - 136.0f, bf16_high(pair) - 136.0f);
      }
    }
  }
};

}  // namespace apar::cuda
