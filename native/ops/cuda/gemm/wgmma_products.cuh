#pragma once

// The products of one warpgroup with wgmma, which stay in flight while the next tile is loaded.

#include <type_traits>

#include "ops/cuda/device/hopper.cuh"
#include "ops/cuda/gemm/formats.cuh"

namespace apar::cuda {

// Whether wgmma can read the packed weights directly from shared memory.
template <class Format>
constexpr bool kFromShared = std::is_same_v<Format, Bf16Tiles>;

#if APAR_HOPPER

// The sums of a warpgroup: its 64 outputs by kRows rows, kRows / 2 in each thread. Products stay in flight
// while the next tile or half tile is waited for, loaded and issued. ptxas adds waits where it does not
// understand that (npm run test:ptxas): loops that issue products do not touch their sums, and depend only on
// numbers that are the same in all threads of a warp.
template <class Format, int kRows, bool = kFromShared<Format>>
struct Products;

// Weights and x are both read from shared memory.
template <class Format, int kRows>
struct Products<Format, kRows, true> {
  float sums[kRows / 2];

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < kRows / 2; ++i) sums[i] = 0;
  }

  // Adds the products of a tile. When this returns, those of the tile before have ended.
  __device__ void add_tile(const unsigned char* weights, const unsigned char* inputs) {
    const uint32_t w = shared_address(weights), x = shared_address(inputs);
    pin(sums);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kTileInputs / 16; ++step)
      wgmma<kRows>(sums, matrix_descriptor(w, step), matrix_descriptor(x, step));
    wgmma_commit();
    wgmma_wait<1>();
    pin(sums);
  }
  // When this returns, all products have ended and are in the sums.
  __device__ void finish() {
    wgmma_wait<0>();
    pin(sums);
  }
};

// Weights are converted to bf16 in registers, half a tile while the half before it is multiplied. For formats
// with scales each half is summed separately and then scaled; no products of theirs stay in flight after
// add_tile().
template <class Format, int kRows>
struct Products<Format, kRows, false> {
  // The sums of both halves of a tile do not fit the registers with many rows.
  static constexpr int kGroups = kRows <= 64 ? 2 : 1;

  float sums[kRows / 2];
  float group[kGroups][Format::kScaled ? kRows / 2 : 1];
  float scale[kGroups][2];
  Operand<Format::kTerms> a[2];

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < kRows / 2; ++i) {
      sums[i] = 0;
      if constexpr (Format::kScaled) group[0][i] = 0;
      if constexpr (Format::kScaled && kGroups == 2) group[1][i] = 0;
    }
  }

  __device__ void add_tile(const unsigned char* weights, const unsigned char* inputs) {
    const int lane = threadIdx.x % 32, block = threadIdx.x / 32 % 4;
    const uint32_t x = shared_address(inputs);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      Format::load(a[half], weights, block, half, lane);  // the last products that read them have ended
      if constexpr (Format::kScaled) {
        Format::scales(scale[half % kGroups], weights, block, half, lane);
        issue(group[half % kGroups], a[half], x, half);
        if constexpr (kGroups == 1) {
          wgmma_wait<0>();
          add_group(0);
        }
      } else {
        issue(sums, a[half], x, half);
        wgmma_wait<1>();
        pin(sums);
      }
    }
    if constexpr (Format::kScaled && kGroups == 2) {
      wgmma_wait<1>();
      add_group(0);
      wgmma_wait<0>();
      add_group(1);
    }
  }
  __device__ void finish() {
    if constexpr (Format::kScaled) return;
    wgmma_wait<0>();
    pin(sums);
  }

 private:
  __device__ static void issue(float (&to)[kRows / 2], const Operand<Format::kTerms>& from, uint32_t x,
                               int half) {
    pin(to);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < 2; ++step)
#pragma unroll
      for (int term = 0; term < Format::kTerms; ++term)
        if (Format::kScaled && step == 0 && term == 0)
          wgmma<kRows, false>(to, from[term][step], matrix_descriptor(x, half * 2 + step));
        else
          wgmma<kRows>(to, from[term][step], matrix_descriptor(x, half * 2 + step));
    wgmma_commit();
  }
  // Adds the sums of a half whose products have ended.
  __device__ void add_group(int half) {
    pin(group[half]);
#pragma unroll
    for (int i = 0; i < kRows / 2; ++i) sums[i] = fmaf(scale[half][i / 2 % 2], group[half][i], sums[i]);
  }
};

#endif

}  // namespace apar::cuda
