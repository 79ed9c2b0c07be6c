#pragma once

namespace apar::cpu {

enum class Isa { reference, avx2, avx512, avx512_bf16, amx, neon, neon_dotprod, neon_i8mm, neon_bf16 };

// From slowest to fastest, x86-64 before ARM. avx512_bf16 includes VNNI, amx includes avx512_bf16; each ARM
// one includes those before it.
constexpr Isa kAllIsas[] = {Isa::reference, Isa::avx2,         Isa::avx512,    Isa::avx512_bf16, Isa::amx,
                            Isa::neon,      Isa::neon_dotprod, Isa::neon_i8mm, Isa::neon_bf16};

const char* to_string(Isa isa);

// Whether this processor, under this operating system, can run the kernels of `isa`. For amx it asks Linux
// for the tiles, once.
bool supported(Isa isa);

// The fastest supported one, or the one that the environment variable APAR_CPU names, by to_string(). Throws
// Error{unavailable} when that name is unknown or not supported here.
Isa select_isa();

}  // namespace apar::cpu
