#pragma once

#include "ops/cuda/device/float8.cuh"
#include "ops/cuda/gemm/weight_tiles.h"

namespace apar::cuda {

// How a warp gets its A operand (16 outputs x 32 inputs, two mma steps) from a packed tile (weight_tiles.h).
// There are two ways: load() reads the operand from shared memory; words_of() reads a lane's whole share of
// the tile from global memory, 16 bytes at a time, and unpack() turns half of it (32 inputs) into the
// operand. A weight that bf16 cannot represent is the sum of kTerms operands, which are multiplied one after
// the other.
//
// Where inputs share scales (kScaled), each half of a tile is summed separately and then scaled; scales()
// reads the two scales of a lane's outputs from a tile in shared memory. What a group of 128 inputs shares
// (kGroupBytes) lies right behind the tile there.
template <int kTerms>
using Operand = uint32_t[kTerms][2][4];  // [term][step][register]

// Transposes the 4 x 4 words of a group of four lanes: word t of lane j becomes word j of lane t.
__device__ inline void transpose_quad(uint32_t (&word)[4]) {
  const bool high = threadIdx.x & 2, odd = threadIdx.x & 1;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t got = __shfl_xor_sync(kFullWarp, high ? word[i] : word[i + 2], 2);
    word[i] = high ? got : word[i];
    word[i + 2] = high ? word[i + 2] : got;
  }
#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    const uint32_t got = __shfl_xor_sync(kFullWarp, odd ? word[i] : word[i + 1], 1);
    word[i] = odd ? got : word[i];
    word[i + 1] = odd ? word[i + 1] : got;
  }
}

__device__ inline void transpose_quad(uint32_t (&word)[4], uint4 from) {
  word[0] = from.x;
  word[1] = from.y;
  word[2] = from.z;
  word[3] = from.w;
  transpose_quad(word);
}

// What all formats without scales in or behind the tiles have.
struct Unscaled {
  static constexpr bool kScaled = false;
  static constexpr int kGroupBytes = 0;
};

// Formats whose tiles end with a scale for each output and half of the inputs.
template <WeightFormat kFormat>
struct HalfScales {
  static constexpr bool kScaled = true;
  static constexpr int kGroupBytes = 0;

  __device__ static void scales(float (&scale)[2], const unsigned char* tile, int block, int half, int lane) {
    const auto* const all = reinterpret_cast<const float*>(tile + tile_bytes(kFormat) - kScaleBytes);
    const int first = half * kTileOuts + block * 16 + lane / 4;
    scale[0] = all[first];
    scale[1] = all[first + 8];
  }
};

// Tiles of 16-bit values in rows of 128 bytes.
struct Rows16 : Unscaled {
  static constexpr int kBytes = tile_bytes(WeightFormat::bf16);
  static constexpr int kWords = 4;

  __device__ static void load_bits(uint32_t (&a)[2][4], const unsigned char* tile, int block, int half,
                                   int lane) {
    const int row = block * 16 + lane % 16;
    for (int step = 0; step < 2; ++step) {
      const int piece = (half * 2 + step) * 2 + lane / 16;
      load_matrices(a[step], tile + row * 128 + ((piece ^ (row % 8)) << 4));
    }
  }

  // Index 2h + r reads piece 4h + lane % 4 of row lane / 4 + 8r: four lanes read 64 bytes of a row.
  __device__ static uint4 words_of(const unsigned char* tile, int block, int index, int lane) {
    const int row = block * 16 + lane / 4 + index % 2 * 8, piece = index / 2 * 4 + lane % 4;
    return load_streaming(tile + row * 128 + ((piece ^ (row % 8)) << 4));
  }
  __device__ static void unpack_bits(uint32_t (&a)[2][4], const uint4 (&words)[kWords], int half) {
    uint32_t pieces[2][4];
    for (int row = 0; row < 2; ++row) transpose_quad(pieces[row], words[half * 2 + row]);
    for (int i = 0; i < 8; ++i) a[i / 4][i % 4] = pieces[i % 2][i / 2];
  }
};

struct Bf16Tiles : Rows16 {
  static constexpr WeightFormat kFormat = WeightFormat::bf16;
  static constexpr int kTerms = 1;

  __device__ static void load(Operand<1>& a, const unsigned char* tile, int block, int half, int lane) {
    load_bits(a[0], tile, block, half, lane);
  }
  __device__ static void unpack(Operand<1>& a, const uint4 (&words)[kWords], int half) {
    unpack_bits(a[0], words, half);
  }
};

// An f16 has 11 significant bits: one bf16 holds the upper 8 and a second one the rest, both exactly.
struct F16Tiles : Rows16 {
  static constexpr WeightFormat kFormat = WeightFormat::f16;
  static constexpr int kTerms = 2;

  __device__ static void split(Operand<2>& a) {
    for (int i = 0; i < 8; ++i) {
      const uint32_t pair = a[0][i / 4][i % 4];
      const float low = f16_float(pair & 0xffffu), high = f16_float(pair >> 16);
      const uint32_t first_low = __float_as_uint(low) & 0xffff0000u,
                     first_high = __float_as_uint(high) & 0xffff0000u;
      a[0][i / 4][i % 4] = first_low >> 16 | first_high;
      a[1][i / 4][i % 4] = bf16_pair(low - __uint_as_float(first_low), high - __uint_as_float(first_high));
    }
  }
  __device__ static void load(Operand<2>& a, const unsigned char* tile, int block, int half, int lane) {
    load_bits(a[0], tile, block, half, lane);
    split(a);
  }
  __device__ static void unpack(Operand<2>& a, const uint4 (&words)[kWords], int half) {
    unpack_bits(a[0], words, half);
    split(a);
  }
};

// Tiles of 8-bit values, which lie in the order of the operand's registers: 16 bytes per lane, block of 16
// outputs and half of the inputs. Format::pair(word, i) makes two bf16 from bytes 2i and 2i + 1 of a word.
template <class Format>
struct Bytes8 {
  static constexpr int kTerms = 1;
  static constexpr int kWords = 2;

  __device__ static void load(Operand<1>& a, const unsigned char* tile, int block, int half, int lane) {
    unpack_bytes(a[0], *reinterpret_cast<const uint4*>(tile + block * 1024 + half * 512 + lane * 16));
  }
  __device__ static uint4 words_of(const unsigned char* tile, int block, int index, int lane) {
    return load_streaming(tile + block * 1024 + index * 512 + lane * 16);
  }
  __device__ static void unpack(Operand<1>& a, const uint4 (&words)[kWords], int half) {
    unpack_bytes(a[0], words[half]);
  }

 private:
  __device__ static void unpack_bytes(uint32_t (&a)[2][4], const uint4& bytes) {
    const uint32_t words[4] = {bytes.x, bytes.y, bytes.z, bytes.w};
    for (int i = 0; i < 8; ++i) a[i / 4][i % 4] = Format::pair(words[i / 2], i % 2);
  }
};

// Integers that fit 8 bits are exact in bf16; the scale is applied to the sums.
struct Int8Tiles : Bytes8<Int8Tiles>, HalfScales<WeightFormat::int8> {
  static constexpr WeightFormat kFormat = WeightFormat::int8;
  static constexpr int kBytes = tile_bytes(WeightFormat::int8);

  // The bf16 128 + n has n < 128 in its lowest bits; 256 is subtracted from it, or 128 where the byte's
  // highest bit is set. Conversion instructions would run at a quarter of the rate.
  __device__ static uint32_t pair(uint32_t word, int i) {
    const uint32_t bytes = __byte_perm(word, 0, i == 0 ? 0x4140 : 0x4342);
    return bf16_pair_subtract((bytes & 0x007f007fu) | 0x43004300u, (bytes & 0x00800080u) ^ 0x43804380u);
  }
};

struct Fp8Tiles : Bytes8<Fp8Tiles>, Unscaled {
  static constexpr WeightFormat kFormat = WeightFormat::fp8;
  static constexpr int kBytes = tile_bytes(WeightFormat::fp8);

  __device__ static uint32_t pair(uint32_t word, int i) {
    const uint32_t upper = __byte_perm(word, 0, i == 0 ? 0x1404 : 0x3424);  // the bytes above zeros
    return bf16_pair_multiply(e4m3_small_pair(upper), 0x7b807b80u);         // 2^120
  }
};

// Tiles of nibbles. The bf16 128 + nibble has the nibble in its lowest bits, and the bf16 128 + zero point is
// subtracted from it: both and the difference are exact. `middle` has that number for the lane's outputs i
// and i + 8.
struct Nibbles {
  static constexpr int kTerms = 1;
  static constexpr int kWords = 1;
  using Middle = uint32_t[2];

  __device__ static void load(Operand<1>& a, const unsigned char* tile, int block, int half, int lane,
                              const Middle& middle) {
    const uint2 words = *reinterpret_cast<const uint2*>(tile + block * 512 + lane * 16 + half * 8);
    unpack_word(a[0][0], words.x, middle);
    unpack_word(a[0][1], words.y, middle);
  }
  __device__ static uint4 words_of(const unsigned char* tile, int block, int /*index*/, int lane) {
    return load_streaming(tile + block * 512 + lane * 16);
  }
  __device__ static void unpack(Operand<1>& a, const uint4 (&words)[kWords], int half, const Middle& middle) {
    unpack_word(a[0][0], half == 0 ? words[0].x : words[0].z, middle);
    unpack_word(a[0][1], half == 0 ? words[0].y : words[0].w, middle);
  }

 private:
  __device__ static void unpack_word(uint32_t (&a)[4], uint32_t word, const Middle& middle) {
    for (int i = 0; i < 4; ++i)
      a[i] = bf16_pair_subtract(((word >> 4 * i) & 0x000f000fu) | 0x43004300u, middle[i % 2]);
  }
};

// The zero point is always 8.
struct Int4Tiles : Nibbles, HalfScales<WeightFormat::int4> {
  static constexpr WeightFormat kFormat = WeightFormat::int4;
  static constexpr int kBytes = tile_bytes(WeightFormat::int4);

  __device__ static void load(Operand<1>& a, const unsigned char* tile, int block, int half, int lane) {
    Nibbles::load(a, tile, block, half, lane, {0x43084308u, 0x43084308u});
  }
  __device__ static void unpack(Operand<1>& a, const uint4 (&words)[kWords], int half) {
    Nibbles::unpack(a, words, half, {0x43084308u, 0x43084308u});
  }
};

// A tile is half a group of 128 inputs: both halves of the tile have the same scales and zero points.
struct Int4G128Tiles : Nibbles {
  static constexpr WeightFormat kFormat = WeightFormat::int4_g128;
  static constexpr bool kScaled = true;
  static constexpr int kBytes = tile_bytes(WeightFormat::int4_g128);
  static constexpr int kGroupBytes = long_group_bytes(WeightFormat::int4_g128);

  // Of a lane's outputs i and i + 8: two scales (f16) and two zero points (4 bits).
  struct Shared {
    uint32_t scales;
    uint32_t zeros;

    __device__ void fetch(const unsigned char* group, int block, int lane) {
      scales = reinterpret_cast<const uint32_t*>(group)[block * 8 + lane / 4];
      zeros = group[kGroupScaleBytes + block * 8 + lane / 4];
    }
    __device__ void get(float (&scale)[2]) const {
      scale[0] = f16_float(scales & 0xffffu);
      scale[1] = f16_float(scales >> 16);
    }
    __device__ void get(Middle& middle) const {
      middle[0] = (zeros & 0xfu) * 0x10001u | 0x43004300u;
      middle[1] = (zeros >> 4) * 0x10001u | 0x43004300u;
    }
  };

  // From shared memory both are read again for each half of the tile, which `volatile` enforces: kept from
  // one half to the next, they would not fit the registers of the mma kernel.
  __device__ static void scales(float (&scale)[2], const unsigned char* tile, int block, int /*half*/,
                                int lane) {
    const auto* const all = reinterpret_cast<const volatile uint32_t*>(tile + kBytes);
    Shared{all[block * 8 + lane / 4], 0}.get(scale);
  }
  __device__ static void load(Operand<1>& a, const unsigned char* tile, int block, int half, int lane) {
    const volatile unsigned char* const all = tile + kBytes + kGroupScaleBytes;
    Middle middle;
    Shared{0, all[block * 8 + lane / 4]}.get(middle);
    Nibbles::load(a, tile, block, half, lane, middle);
  }
};

// c += a · b for 32 inputs. Every kernel that uses mma.sync adds in this order.
template <int kTerms>
__device__ inline void multiply_half(float (&c)[4], const uint32_t (&a)[kTerms][2][4],
                                     const uint32_t (&b)[4]) {
#pragma unroll
  for (int step = 0; step < 2; ++step)
#pragma unroll
    for (int term = 0; term < kTerms; ++term) mma_bf16(c, a[term][step], b[2 * step], b[2 * step + 1]);
}

// Calls launch(Format{}) with the class that reads weights of `format`.
template <class Launch>
void with_tiles(WeightFormat format, Launch launch) {
  if (format == WeightFormat::int8) return launch(Int8Tiles{});
  if (format == WeightFormat::int4) return launch(Int4Tiles{});
  if (format == WeightFormat::int4_g128) return launch(Int4G128Tiles{});
  if (format == WeightFormat::f16) return launch(F16Tiles{});
  if (format == WeightFormat::fp8) return launch(Fp8Tiles{});
  launch(Bf16Tiles{});
}

}  // namespace apar::cuda
