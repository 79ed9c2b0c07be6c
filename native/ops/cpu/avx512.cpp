// Compiled with AVX-512 F, BW, VL and DQ. Nothing here may be shared with other files: no templates or inline
// functions of the standard library, or the linker might keep this file's copy of one for every processor.
#include <immintrin.h>

#include "ops/cpu/kernels.h"
#include "ops/cpu/packed.h"

namespace apar::cpu {
namespace {

#include "ops/cpu/avx512_vec.inl"

// sum += w · x for a pair of bf16 per lane, widened exactly: first the product of the even elements, then
// that of the odd ones.
Vec dot_bf16(Vec sum, Ints w, Ints x) {
  const auto even = [](Ints pairs) { return Vec{_mm512_castsi512_ps(_mm512_slli_epi32(pairs.v, 16))}; };
  const auto odd = [](Ints pairs) {
    return Vec{_mm512_castsi512_ps(_mm512_and_si512(pairs.v, _mm512_set1_epi32(-65536)))};
  };
  return Vec::fma(odd(w), odd(x), Vec::fma(even(w), even(x), sum));
}

// Adds four products of unsigned and signed bytes per lane, exactly: the even and the odd bytes as 16 bits.
Ints dot_u8s8(Ints sum, Ints w, Ints x) {
  const __m512i w_even = _mm512_and_si512(w.v, _mm512_set1_epi16(255)), w_odd = _mm512_srli_epi16(w.v, 8);
  const __m512i x_even = _mm512_srai_epi16(_mm512_slli_epi16(x.v, 8), 8), x_odd = _mm512_srai_epi16(x.v, 8);
  const __m512i products =
      _mm512_add_epi32(_mm512_madd_epi16(w_even, x_even), _mm512_madd_epi16(w_odd, x_odd));
  return {_mm512_add_epi32(sum.v, products)};
}
// The same for weights below 16, where the sum of two products fits 16 bits.
Ints dot_u4s8(Ints sum, Ints w, Ints x) {
  const __m512i products = _mm512_madd_epi16(_mm512_maddubs_epi16(w.v, x.v), _mm512_set1_epi16(1));
  return {_mm512_add_epi32(sum.v, products)};
}

#include "ops/cpu/simd_kernels.inl"

}  // namespace

constinit const Kernels avx512_kernels = kKernels;

}  // namespace apar::cpu
