// Compiled with AVX-512 F, BW, VL, DQ, VNNI and BF16, so nothing here may be shared with other files: no
// templates or inline functions of the standard library, or the linker might keep this file's copy for every
// processor.
#include <immintrin.h>

#include "ops/cpu/kernels.h"
#include "ops/cpu/packed.h"

namespace apar::cpu {
namespace {

#include "ops/cpu/avx512_vec.inl"

// Rounds as the instruction does: bf16 subnormals count as zero.
Vec dot_bf16(Vec sum, Ints w, Ints x) {
  return {_mm512_dpbf16_ps(sum.v, reinterpret_cast<__m512bh>(w.v), reinterpret_cast<__m512bh>(x.v))};
}
Ints dot_u8s8(Ints sum, Ints w, Ints x) {
  return {_mm512_dpbusd_epi32(sum.v, w.v, x.v)};
}
Ints dot_u4s8(Ints sum, Ints w, Ints x) {
  return dot_u8s8(sum, w, x);
}

#include "ops/cpu/simd_attention.inl"
#include "ops/cpu/simd_elementwise.inl"
#include "ops/cpu/simd_matmul.inl"
#include "ops/cpu/simd_packed.inl"

}  // namespace

const Kernels avx512_bf16_kernels = {
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
