// Compiled with AVX-512 F, BW, VL and DQ, so nothing here may be shared with other files: no templates or
// inline functions of the standard library, or the linker might keep this file's copy for every processor.
#include <immintrin.h>

#include "ops/cpu/kernels.h"

namespace apar::cpu {
namespace {

struct Vec {
  static constexpr int64_t kLanes = 16;
  static constexpr int64_t kTileRows =
      6;  // with 4 outputs: 24 sums, 6 activations and a weight in 32 registers

  __m512 v;

  static Vec zero() { return {_mm512_setzero_ps()}; }
  static Vec all(float x) { return {_mm512_set1_ps(x)}; }
  static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec load(const uint16_t* p) {
    return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  // The first n lanes, the others zero; reads nothing beyond them. 0 < n < kLanes.
  static Vec load(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
  static Vec load(const uint16_t* p, int64_t n) { return widen(_mm256_maskz_loadu_epi16(first(n), p)); }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store(float* p, int64_t n) const { _mm512_mask_storeu_ps(p, first(n), v); }

  // A NaN in x wins over the bound in both.
  static Vec max(Vec bound, Vec x) { return {_mm512_max_ps(bound.v, x.v)}; }
  static Vec min(Vec bound, Vec x) { return {_mm512_min_ps(bound.v, x.v)}; }
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  static Vec round(Vec x) {
    return {_mm512_roundscale_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
  }
  // 2^n for whole n in [-126, 127].
  static Vec power_of_two(Vec n) {
    const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23))};
  }
  // x, or zero in the lanes where test < bound.
  static Vec zero_below(Vec x, Vec test, float bound) {
    return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(test.v, _mm512_set1_ps(bound), _CMP_NLT_UQ), x.v)};
  }

  // The sum of each vector's lanes, by one tree for every position.
  static __m128 sums(Vec a, Vec b, Vec c, Vec d) {
    return _mm_hadd_ps(_mm_hadd_ps(quarter(a), quarter(b)), _mm_hadd_ps(quarter(c), quarter(d)));
  }
  static float greatest(Vec x) { return _mm512_reduce_max_ps(x.v); }

 private:
  static __mmask16 first(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }
  static Vec widen(__m256i x) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16))};
  }
  static __m128 quarter(Vec x) {
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  }
};

Vec operator+(Vec a, Vec b) {
  return {_mm512_add_ps(a.v, b.v)};
}
Vec operator-(Vec a, Vec b) {
  return {_mm512_sub_ps(a.v, b.v)};
}
Vec operator*(Vec a, Vec b) {
  return {_mm512_mul_ps(a.v, b.v)};
}
Vec operator/(Vec a, Vec b) {
  return {_mm512_div_ps(a.v, b.v)};
}

#include "ops/cpu/simd_attention.inl"
#include "ops/cpu/simd_elementwise.inl"
#include "ops/cpu/simd_matmul.inl"

}  // namespace

const Kernels avx512_kernels = {
    .matmul_f32 = matmul<float>,
    .matmul_bf16 = matmul<uint16_t>,
    .add = add,
    .rms_norm = rms_norm,
    .swiglu = swiglu,
    .scores_f32 = scores<float>,
    .scores_bf16 = scores<uint16_t>,
    .softmax = softmax,
    .values_f32 = values<float>,
    .values_bf16 = values<uint16_t>,
};

}  // namespace apar::cpu
