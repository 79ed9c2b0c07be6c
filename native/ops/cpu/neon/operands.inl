// What the products of all ARM instruction sets stand on; their files include it first.
#include "ops/cpu/simd_target.inl"
// After the prefetching.
#include "ops/cpu/neon/vec.inl"
// After the vectors.
#include "ops/cpu/simd_panel.inl"
// After the panels.
#include "ops/cpu/neon/group.inl"
#include "ops/cpu/simd_parts.inl"
