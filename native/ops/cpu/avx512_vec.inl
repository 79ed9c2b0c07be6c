// Vec and Ints of the AVX-512 files, which include it inside their anonymous namespaces.

struct Ints {
  __m512i v;

  static Ints load(const std::byte* p) { return {_mm512_loadu_si512(p)}; }
  // Copies the 4 bytes at p to every lane.
  static Ints broadcast(const std::byte* p) {
    int32_t bytes;
    __builtin_memcpy(&bytes, p, sizeof(bytes));
    return {_mm512_set1_epi32(bytes)};
  }
};

struct Vec {
  static constexpr int64_t kLanes = 16;
  // With 4 outputs: 24 sums, 6 activations and a weight in 32 registers.
  static constexpr int64_t kTileRows = 6;
  // With the 2 vectors of a panel: 16 sums, or 12 integer sums and 12 float sums.
  static constexpr int64_t kBf16Rows = 8;
  static constexpr int64_t kIntRows = 6;
  static constexpr int64_t kValueQueries = 8;  // with 2 vectors of a value

  __m512 v;

  static Vec zero() { return {_mm512_setzero_ps()}; }
  static Vec broadcast(float x) { return {_mm512_set1_ps(x)}; }
  static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec load(const uint16_t* p) {
    return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Vec load_half(const std::byte* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  static Vec broadcast_f32(const std::byte* f32) { return {_mm512_castsi512_ps(Ints::broadcast(f32).v)}; }
  // Loads the first n lanes and sets the others to zero; reads nothing beyond them. 0 < n < kLanes.
  static Vec load(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(mask(n), p)}; }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store(float* p, int64_t n) const { _mm512_mask_storeu_ps(p, mask(n), v); }

  // A NaN in x is returned; a NaN is never replaced by the bound.
  static Vec max(Vec bound, Vec x) { return {_mm512_max_ps(bound.v, x.v)}; }
  static Vec min(Vec bound, Vec x) { return {_mm512_min_ps(bound.v, x.v)}; }
  static Vec abs(Vec x) { return {_mm512_abs_ps(x.v)}; }
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  static Vec round(Vec x) {
    return {_mm512_roundscale_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
  }
  // 2^n for integers n in [-126, 127].
  static Vec power_of_two(Vec n) {
    const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23))};
  }
  // x, but zero in the lanes where test < bound.
  static Vec zero_below(Vec x, Vec test, float bound) {
    return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(test.v, _mm512_set1_ps(bound), _CMP_NLT_UQ), x.v)};
  }

  // The sum of the lanes of each vector. Every one of the four is added by the same tree.
  static __m128 lane_sums(Vec a, Vec b, Vec c, Vec d) {
    return _mm_hadd_ps(_mm_hadd_ps(quarter(a), quarter(b)), _mm_hadd_ps(quarter(c), quarter(d)));
  }
  static float reduce_max(Vec x) { return _mm512_reduce_max_ps(x.v); }

 private:
  static __mmask16 mask(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }
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

Vec to_floats(Ints x) {
  return {_mm512_cvtepi32_ps(x.v)};
}
Ints low_nibbles(Ints x) {
  return {_mm512_and_si512(x.v, _mm512_set1_epi8(15))};
}
Ints high_nibbles(Ints x) {
  return {_mm512_and_si512(_mm512_srli_epi16(x.v, 4), _mm512_set1_epi8(15))};
}

// Rounds as f32_to_bf16() does.
void store_bf16(Vec x, uint16_t* p) {
  const __m512i bits = _mm512_castps_si512(x.v), high = _mm512_srli_epi32(bits, 16);
  const __m512i half =
      _mm512_add_epi32(_mm512_and_si512(high, _mm512_set1_epi32(1)), _mm512_set1_epi32(0x7fff));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, half), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q);
  const __m512i kept = _mm512_mask_or_epi32(rounded, nan, high, _mm512_set1_epi32(0x40));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(kept));
}
// x holds integers in [-128, 127].
void store_int8(Vec x, int8_t* p) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x.v)));
}
