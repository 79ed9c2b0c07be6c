// Compiled with AVX2, FMA and F16C. Nothing here may be shared with other files: no templates or inline
// functions of the standard library, or the linker might keep this file's copy of one for every processor.
#include <immintrin.h>

#include "ops/cpu/kernels.h"
#include "ops/cpu/packed.h"

namespace apar::cpu {
namespace {

struct Ints {
  __m256i v;

  static Ints load(const std::byte* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
  // Copies the 4 bytes at p to every lane.
  static Ints broadcast(const std::byte* p) {
    int32_t bytes;
    __builtin_memcpy(&bytes, p, sizeof(bytes));
    return {_mm256_set1_epi32(bytes)};
  }
};

struct Vec {
  static constexpr int64_t kLanes = 8;
  // With 4 outputs: 12 sums, 3 activations and a weight in 16 registers.
  static constexpr int64_t kTileRows = 3;
  // With the 4 vectors of a panel: 4 integer sums and 4 float sums (int4).
  static constexpr int64_t kIntRows = 1;
  static constexpr int64_t kValueQueries = 4;  // with 2 vectors of a value

  __m256 v;

  static Vec zero() { return {_mm256_setzero_ps()}; }
  static Vec broadcast(float x) { return {_mm256_set1_ps(x)}; }
  static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Vec load(const uint16_t* p) { return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static Vec load_half(const std::byte* p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
  }
  static Vec broadcast_f32(const std::byte* f32) { return {_mm256_castsi256_ps(Ints::broadcast(f32).v)}; }
  // Loads the first n lanes and sets the others to zero; reads nothing beyond them. 0 < n < kLanes.
  static Vec load(const float* p, int64_t n) { return {_mm256_maskload_ps(p, mask(n))}; }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void store(float* p, int64_t n) const { _mm256_maskstore_ps(p, mask(n), v); }

  // A NaN in x is returned; a NaN is never replaced by the bound.
  static Vec max(Vec bound, Vec x) { return {_mm256_max_ps(bound.v, x.v)}; }
  static Vec min(Vec bound, Vec x) { return {_mm256_min_ps(bound.v, x.v)}; }
  static Vec abs(Vec x) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), x.v)}; }
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  static Vec round(Vec x) { return {_mm256_round_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
  // 2^n for integers n in [-126, 127].
  static Vec power_of_two(Vec n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23))};
  }
  // x, but zero in the lanes where test < bound.
  static Vec zero_below(Vec x, Vec test, float bound) {
    return {_mm256_and_ps(_mm256_cmp_ps(test.v, _mm256_set1_ps(bound), _CMP_NLT_UQ), x.v)};
  }

  // The sum of the lanes of each vector. Every one of the four is added by the same tree.
  static __m128 lane_sums(Vec a, Vec b, Vec c, Vec d) {
    return _mm_hadd_ps(_mm_hadd_ps(half(a), half(b)), _mm_hadd_ps(half(c), half(d)));
  }
  static float reduce_max(Vec x) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(x.v), _mm256_extractf128_ps(x.v, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }

 private:
  static __m256i mask(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(n)),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static Vec widen(__m128i x) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16))};
  }
  static __m128 half(Vec x) { return _mm_add_ps(_mm256_castps256_ps128(x.v), _mm256_extractf128_ps(x.v, 1)); }
};

Vec operator+(Vec a, Vec b) {
  return {_mm256_add_ps(a.v, b.v)};
}
Vec operator-(Vec a, Vec b) {
  return {_mm256_sub_ps(a.v, b.v)};
}
Vec operator*(Vec a, Vec b) {
  return {_mm256_mul_ps(a.v, b.v)};
}
Vec operator/(Vec a, Vec b) {
  return {_mm256_div_ps(a.v, b.v)};
}

Vec to_floats(Ints x) {
  return {_mm256_cvtepi32_ps(x.v)};
}
// The even or odd elements of pairs of bf16, widened exactly.
Vec even_bf16(Ints pairs) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(pairs.v, 16))};
}
Vec odd_bf16(Ints pairs) {
  return {_mm256_castsi256_ps(_mm256_and_si256(pairs.v, _mm256_set1_epi32(-65536)))};
}
// sum += w · x for a pair of bf16 per lane: first the product of the even elements, then that of the odd
// ones.
Vec dot_bf16(Vec sum, Ints w, Ints x) {
  return Vec::fma(odd_bf16(w), odd_bf16(x), Vec::fma(even_bf16(w), even_bf16(x), sum));
}
Ints low_nibbles(Ints x) {
  return {_mm256_and_si256(x.v, _mm256_set1_epi8(15))};
}
Ints high_nibbles(Ints x) {
  return {_mm256_and_si256(_mm256_srli_epi16(x.v, 4), _mm256_set1_epi8(15))};
}

// Rounds as f32_to_bf16() does.
void store_bf16(Vec x, uint16_t* p) {
  const __m256i bits = _mm256_castps_si256(x.v), high = _mm256_srli_epi32(bits, 16);
  const __m256i half =
      _mm256_add_epi32(_mm256_and_si256(high, _mm256_set1_epi32(1)), _mm256_set1_epi32(0x7fff));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, half), 16);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x.v, x.v, _CMP_UNORD_Q));
  const __m256i kept = _mm256_blendv_epi8(rounded, _mm256_or_si256(high, _mm256_set1_epi32(0x40)), nan);
  const __m128i packed = _mm_packus_epi32(_mm256_castsi256_si128(kept), _mm256_extracti128_si256(kept, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), packed);
}
// x holds integers in [-128, 127].
void store_int8(Vec x, int8_t* p) {
  const __m256i whole = _mm256_cvtps_epi32(x.v);
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
}

// Adds four products of weights below 16 and signed bytes per lane, exactly: the sum of two fits 16 bits.
Ints dot_u4s8(Ints sum, Ints w, Ints x) {
  const __m256i products = _mm256_madd_epi16(_mm256_maddubs_epi16(w.v, x.v), _mm256_set1_epi16(1));
  return {_mm256_add_epi32(sum.v, products)};
}

#include "ops/cpu/simd_target.inl"
// Before those that use it.
#include "ops/cpu/simd_attention.inl"
#include "ops/cpu/simd_elementwise.inl"
#include "ops/cpu/simd_matmul.inl"
#include "ops/cpu/simd_panel.inl"
// After the panels.
#include "ops/cpu/simd_parts.inl"
// After the parts.
#include "ops/cpu/avx2_bf16_product.inl"
#include "ops/cpu/simd_int_product.inl"
// After the product that it replaces for int8.
#include "ops/cpu/avx2_int8_product.inl"
// After the products.
#include "ops/cpu/simd_packed.inl"
// After the kernels that it lists.
#include "ops/cpu/kernel_table.inl"

}  // namespace

constinit const Kernels avx2_kernels = kKernels;

}  // namespace apar::cpu
