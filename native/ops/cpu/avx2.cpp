// Compiled with AVX2 and FMA, so nothing here may be shared with other files: no templates or inline
// functions of the standard library, or the linker might keep this file's copy for every processor.
#include <immintrin.h>

#include "ops/cpu/kernels.h"

namespace apar::cpu {
namespace {

struct Vec {
  static constexpr int64_t kLanes = 8;
  static constexpr int64_t kTileRows =
      3;  // with 4 outputs: 12 sums, 3 activations and a weight in 16 registers

  __m256 v;

  static Vec zero() { return {_mm256_setzero_ps()}; }
  static Vec all(float x) { return {_mm256_set1_ps(x)}; }
  static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Vec load(const uint16_t* p) { return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  // The first n lanes, the others zero; reads nothing beyond them. 0 < n < kLanes.
  static Vec load(const float* p, int64_t n) { return {_mm256_maskload_ps(p, first(n))}; }
  static Vec load(const uint16_t* p, int64_t n) {
    alignas(16) uint16_t lanes[kLanes] = {};
    for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
    return load(lanes);
  }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void store(float* p, int64_t n) const { _mm256_maskstore_ps(p, first(n), v); }

  // A NaN in x wins over the bound in both.
  static Vec max(Vec bound, Vec x) { return {_mm256_max_ps(bound.v, x.v)}; }
  static Vec min(Vec bound, Vec x) { return {_mm256_min_ps(bound.v, x.v)}; }
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  static Vec round(Vec x) { return {_mm256_round_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
  // 2^n for whole n in [-126, 127].
  static Vec power_of_two(Vec n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23))};
  }
  // x, or zero in the lanes where test < bound.
  static Vec zero_below(Vec x, Vec test, float bound) {
    return {_mm256_and_ps(_mm256_cmp_ps(test.v, _mm256_set1_ps(bound), _CMP_NLT_UQ), x.v)};
  }

  // The sum of each vector's lanes, by one tree for every position.
  static __m128 sums(Vec a, Vec b, Vec c, Vec d) {
    return _mm_hadd_ps(_mm_hadd_ps(half(a), half(b)), _mm_hadd_ps(half(c), half(d)));
  }
  static float greatest(Vec x) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(x.v), _mm256_extractf128_ps(x.v, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }

 private:
  static __m256i first(int64_t n) {
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

#include "ops/cpu/simd_attention.inl"
#include "ops/cpu/simd_elementwise.inl"
#include "ops/cpu/simd_matmul.inl"

}  // namespace

const Kernels avx2_kernels = {
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
