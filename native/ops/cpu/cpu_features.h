#pragma once

namespace apar::cpu {

enum class Isa { reference, avx2, avx512, avx512_bf16 };

// From slowest to fastest.
constexpr Isa kAllIsas[] = {Isa::reference, Isa::avx2, Isa::avx512, Isa::avx512_bf16};

const char* to_string(Isa isa);

// Whether this processor, under this operating system, can run the kernels of `isa`.
bool supported(Isa isa);

// The fastest supported one, or the one that the environment variable APAR_CPU names (reference, avx2,
// avx512, avx512_bf16). Throws Error{unavailable} when that name is unknown or not supported here.
Isa select_isa();

}  // namespace apar::cpu
