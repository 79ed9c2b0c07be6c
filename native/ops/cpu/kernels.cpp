#include "ops/cpu/kernels.h"

#include <string>

#include "common/error.h"

namespace apar::cpu {

const Kernels& kernels(Isa isa) {
  if (!supported(isa))
    throw Error(ErrorCode::unavailable, std::string(to_string(isa)) + ": this processor does not support it");
#if defined(__x86_64__)
  if (isa == Isa::avx512_bf16) return avx512_bf16_kernels;
  if (isa == Isa::avx512) return avx512_kernels;
  if (isa == Isa::avx2) return avx2_kernels;
#endif
  return reference_kernels;
}

}  // namespace apar::cpu
