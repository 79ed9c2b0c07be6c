// All kernels and their table, for a file that has included operands.inl, its product with bf16 weights and
// its dot products of bytes.
#include "ops/cpu/neon/int_product.inl"
#include "ops/cpu/simd_attention.inl"
#include "ops/cpu/simd_elementwise.inl"
#include "ops/cpu/simd_matmul.inl"
// After the products and what loads a part of a vector.
#include "ops/cpu/simd_packed.inl"
// After the kernels that it lists.
#include "ops/cpu/kernel_table.inl"
