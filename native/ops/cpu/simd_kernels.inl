// All kernels over Vec and Ints and their table, for a file that defines both and includes this inside its
// anonymous namespace: avx512.cpp and avx512_bf16.cpp. avx2.cpp and neon/ have products of their own.
#include "ops/cpu/simd_target.inl"
// Before those that use it.
#include "ops/cpu/simd_attention.inl"
#include "ops/cpu/simd_elementwise.inl"
#include "ops/cpu/simd_matmul.inl"
#include "ops/cpu/simd_panel.inl"
// After the panels.
#include "ops/cpu/simd_bf16_product.inl"
#include "ops/cpu/simd_int_product.inl"
// After the products.
#include "ops/cpu/simd_packed.inl"
// After the kernels that it lists.
#include "ops/cpu/kernel_table.inl"
