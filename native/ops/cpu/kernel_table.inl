// The kernel table of one instruction set. The file of each instruction set includes it at the end of its
// anonymous namespace, so that the names below are that file's own functions. The members of Kernels have no
// default values: a file that lacks one of the functions does not compile, and neither does a table that
// lacks a kernel of kernels.h.

constexpr Kernels kKernels = {
    .matmul_f32 = matmul_f32,
    .bf16 = {.prepare = prepare_bf16, .multiply = multiply<Bf16Product>},
    .int8 = {.prepare = prepare_int8<128>, .multiply = multiply<IntProduct<WeightFormat::int8>>},
    .int4 = {.prepare = prepare_int8<8>, .multiply = multiply<IntProduct<WeightFormat::int4>>},
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
