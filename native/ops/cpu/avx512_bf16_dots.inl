// Vec, Ints and the dot products of processors with AVX512_BF16 and VNNI, for the files that are compiled for
// them.
#include "ops/cpu/avx512_vec.inl"

// Rounds as the instruction does, which treats bf16 subnormals as zero.
[[maybe_unused]] Vec dot_bf16(Vec sum, Ints w, Ints x) {
  return {_mm512_dpbf16_ps(sum.v, reinterpret_cast<__m512bh>(w.v), reinterpret_cast<__m512bh>(x.v))};
}
Ints dot_u8s8(Ints sum, Ints w, Ints x) {
  return {_mm512_dpbusd_epi32(sum.v, w.v, x.v)};
}
Ints dot_u4s8(Ints sum, Ints w, Ints x) {
  return dot_u8s8(sum, w, x);
}
