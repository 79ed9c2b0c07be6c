// All kernels over Vec and Ints and their table, for a file that defines both and includes this inside its
// anonymous namespace: avx2.cpp, avx512.cpp and avx512_bf16.cpp.
#include "ops/cpu/simd_attention.inl"
#include "ops/cpu/simd_elementwise.inl"
#include "ops/cpu/simd_matmul.inl"
#include "ops/cpu/simd_packed.inl"
// After the kernels that it lists.
#include "ops/cpu/kernel_table.inl"
