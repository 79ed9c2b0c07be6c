// Compiled with AVX-512 F, BW, VL and DQ, so nothing here may be shared with other files: no templates or
// inline functions of the standard library, or the linker might keep this file's copy for every processor.
#include <immintrin.h>

#include "ops/cpu/kernels.h"
#include "ops/cpu/packed.h"

namespace apar::cpu {
namespace {

#include "ops/cpu/avx512_vec.inl"

// Pairs of bf16, widened exactly: first the even element's product, then the odd one's.
Vec dot_bf16(Vec sum, Ints w, Ints x) {
  const auto even = [](Ints pairs) { return Vec{_mm512_castsi512_ps(_mm512_slli_epi32(pairs.v, 16))}; };
  const auto odd = [](Ints pairs) {
    return Vec{_mm512_castsi512_ps(_mm512_and_si512(pairs.v, _mm512_set1_epi32(-65536)))};
  };
  return Vec::fma(odd(w), odd(x), Vec::fma(even(w), even(x), sum));
}

// Four products of unsigned and signed bytes per lane, exactly: even and odd bytes as 16 bits.
Ints dot_u8s8(Ints sum, Ints w, Ints x) {
  const __m512i w_even = _mm512_and_si512(w.v, _mm512_set1_epi16(255)), w_odd = _mm512_srli_epi16(w.v, 8);
  const __m512i x_even = _mm512_srai_epi16(_mm512_slli_epi16(x.v, 8), 8), x_odd = _mm512_srai_epi16(x.v, 8);
  const __m512i products =
      _mm512_add_epi32(_mm512_madd_epi16(w_even, x_even), _mm512_madd_epi16(w_odd, x_odd));
  return {_mm512_add_epi32(sum.v, products)};
}
// The same for weights below 16: their products fit 16 bits two by two.
Ints dot_u4s8(Ints sum, Ints w, Ints x) {
  const __m512i products = _mm512_madd_epi16(_mm512_maddubs_epi16(w.v, x.v), _mm512_set1_epi16(1));
  return {_mm512_add_epi32(sum.v, products)};
}

#include "ops/cpu/simd_attention.inl"
#include "ops/cpu/simd_elementwise.inl"
#include "ops/cpu/simd_matmul.inl"
#include "ops/cpu/simd_packed.inl"

}  // namespace

const Kernels avx512_kernels = {
    .matmul_f32 = matmul,
    .bf16 = {prepare_bf16, multiply<Bf16Product>},
    .int8 = {prepare_int8<128>, multiply<IntProduct<WeightFormat::int8>>},
    .int4 = {prepare_int8<8>, multiply<IntProduct<WeightFormat::int4>>},
    .add = add,
    .rms_norm = rms_norm,
    .swiglu = swiglu,
    .rotate = rotate,
    .scores_f32 = scores<float>,
    .scores_bf16 = scores<uint16_t>,
    .softmax = softmax,
    .values_f32 = values<float>,
    .values_bf16 = values<uint16_t>,
};

}  // namespace apar::cpu
