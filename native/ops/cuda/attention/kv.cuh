#pragma once

#include "ops/cuda/device/float8.cuh"
#include "ops/cuda/step/attention_work.h"
#include "ops/cuda/step/kv_layout.h"

namespace apar::cuda {

// A chunk's keys and values in shared memory, and how attention/mma.cu loads its operands from them. Each
// format has
//   kRowBytes, kScaleBytes   bytes of a token's keys (or values) in shared memory, and of its KvScale
//   kUnitTokens, kMaxDepth   the tokens of a warp's unit of copying, and at most so many of them (task.cuh)
//   kMinBlocks               blocks of a multiprocessor that leave a thread enough registers: no spills
//                            (ptxas-ceilings.json)
//   kLoadTokens              tokens of one load
//   Scales                   the scales of the tokens of a unit or chunk that a lane needs
//   load_keys                b[i]: elements 16 step ... + 15 of tokens token + 8 i ... + 7
//   load_values              b[i][half]: elements 16 dims + 8 half ... + 7 of tokens token + 16 i ... + 15
// The operands of both formats represent the same numbers, in bf16 and in the same order.

// Rows of kPieces pieces of 16 bytes in shared memory, without padding. The pieces of a row are permuted so
// that one piece of eight rows lies in different banks: rows 8 / kCommon apart begin in the same bank, and
// there the lower bits of the piece's position differ.
template <int kPieces>
struct Rows {
  static constexpr int kBytes = kPieces * kCopyBytes;
  static constexpr int kCommon = kPieces % 8 == 0 ? 8 : kPieces & -kPieces;

  // The offset of a piece of row first + row; first is a multiple of 8.
  __device__ static constexpr int at(int first, int row, int piece) {
    return (first + row) * kBytes + (piece ^ row / (8 / kCommon) % kCommon) * kCopyBytes;
  }
};

template <int kHeadDim>
struct Bf16Kv {
  static constexpr int kDim = kHeadDim;
  static constexpr int kPieces = kDim * 2 / kCopyBytes;
  using KvRows = Rows<kPieces>;
  static constexpr int kRowBytes = KvRows::kBytes;
  static constexpr int kScaleBytes = 0;
  static constexpr int kUnitTokens = 32, kMaxDepth = 3;
  static constexpr int kMinBlocks = kDim == 64 ? 3 : 2;
  static constexpr int kLoadTokens = 16;

  struct Scales {};
  __device__ static Scales key_scales(const unsigned char*, int) { return {}; }
  __device__ static Scales value_scales(const unsigned char*, int) { return {}; }

  __device__ static void load_keys(uint32_t (&b)[2][2], const unsigned char* rows, const Scales&, int token,
                                   int step, int lane) {
    uint32_t words[4];
    load_matrices(words, rows + KvRows::at(token, lane % 16, step * 2 + lane / 16));
    for (int i = 0; i < 4; ++i) b[i % 2][i / 2] = words[i];
  }
  __device__ static void load_values(uint32_t (&b)[1][2][2], const unsigned char* rows, const Scales&,
                                     int token, int dims, int lane) {
    uint32_t words[4];
    load_matrices_transposed(words, rows + KvRows::at(token, lane % 16, dims * 2 + lane / 16));
    for (int i = 0; i < 4; ++i) b[0][i / 2][i % 2] = words[i];
  }
};

// A matrix of 16-bit columns holds 16 elements of eight tokens, with elements d and d + 8 in one column. So
// the lower bytes of a lane's word belong to one operand and the upper bytes to the other.
template <int kHeadDim>
struct Fp8Kv {
  static constexpr int kDim = kHeadDim;
  static constexpr int kPieces = kDim / kCopyBytes;
  using KvRows = Rows<kPieces>;
  static constexpr int kRowBytes = KvRows::kBytes;
  static constexpr int kScaleBytes = sizeof(KvScale);
  static constexpr int kUnitTokens = 64, kMaxDepth = 2;
  static constexpr int kMinBlocks = kDim == 64 ? 3 : 2;
  static constexpr int kLoadTokens = 32;

  // For every eight tokens: the pair of factors for the two halves of the lane's words.
  struct Scales {
    uint32_t pair[kChunkTokens / 8];
  };
  // A lane's word holds keys of one token, but values of two tokens.
  __device__ static Scales key_scales(const unsigned char* scales, int lane) {
    Scales result;
#pragma unroll
    for (int i = 0; i < kChunkTokens / 8; ++i)
      result.pair[i] = reinterpret_cast<const KvScale*>(scales)[8 * i + lane / 4].keys * 0x00010001u;
    return result;
  }
  __device__ static Scales value_scales(const unsigned char* scales, int lane) {
    Scales result;
#pragma unroll
    for (int i = 0; i < kChunkTokens / 8; ++i) {
      const KvScale* const two = reinterpret_cast<const KvScale*>(scales) + 8 * i + lane % 4 * 2;
      result.pair[i] = two[0].values | static_cast<uint32_t>(two[1].values) << 16;
    }
    return result;
  }

  __device__ static void widen(uint32_t& low, uint32_t& high, uint32_t word, uint32_t scales) {
    low = bf16_pair_multiply(e4m3_small_pair(word << 8), scales);
    high = bf16_pair_multiply(e4m3_small_pair(word), scales);
  }

  __device__ static void load_keys(uint32_t (&b)[4][2], const unsigned char* rows, const Scales& scales,
                                   int token, int step, int lane) {
    uint32_t words[4];
    load_matrices(words, rows + KvRows::at(token, lane, step));
    for (int i = 0; i < 4; ++i) widen(b[i][0], b[i][1], words[i], scales.pair[token / 8 + i]);
  }
  __device__ static void load_values(uint32_t (&b)[2][2][2], const unsigned char* rows, const Scales& scales,
                                     int token, int dims, int lane) {
    uint32_t words[4];
    load_matrices_transposed(words, rows + KvRows::at(token, lane, dims));
    for (int i = 0; i < 4; ++i)
      widen(b[i / 2][0][i % 2], b[i / 2][1][i % 2], words[i], scales.pair[token / 8 + i]);
  }
};

}  // namespace apar::cuda
