#include "ops/cpu/kernels.h"

#include <string>

#include "common/error.h"

namespace apar::cpu {

const Kernels& kernels(Isa isa) {
  if (!supported(isa))
    throw Error(ErrorCode::unavailable, std::string(to_string(isa)) + ": this processor does not support it");
#if defined(__x86_64__)
  if (isa == Isa::amx) return amx_kernels;
  if (isa == Isa::avx512_bf16) return avx512_bf16_kernels;
  if (isa == Isa::avx512) return avx512_kernels;
  if (isa == Isa::avx2) return avx2_kernels;
#elif defined(__aarch64__)
  if (isa == Isa::neon_bf16) return neon_bf16_kernels;
  if (isa == Isa::neon_i8mm) return neon_i8mm_kernels;
  if (isa == Isa::neon_dotprod) return neon_dotprod_kernels;
  if (isa == Isa::neon) return neon_kernels;
#endif
  return reference_kernels;
}

}  // namespace apar::cpu
