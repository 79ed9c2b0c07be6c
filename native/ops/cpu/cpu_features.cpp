#include "ops/cpu/cpu_features.h"

#include <cstdlib>
#include <string>

#include "common/error.h"
#include "ops/cpu/amx/permission.h"
#include "ops/cpu/arm_features.h"

namespace apar::cpu {

const char* to_string(Isa isa) {
  switch (isa) {
    case Isa::reference:
      return "reference";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::avx512_bf16:
      return "avx512_bf16";
    case Isa::amx:
      return "amx";
    case Isa::neon:
      return "neon";
    case Isa::neon_dotprod:
      return "neon_dotprod";
    case Isa::neon_i8mm:
      return "neon_i8mm";
    case Isa::neon_bf16:
      return "neon_bf16";
  }
  return "unknown";
}

// The compiler's built-in check also asks the operating system: registers that it does not save cannot be
// used.
bool supported(Isa isa) {
  if (isa == Isa::reference) return true;
#if defined(__x86_64__)
  switch (isa) {
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             __builtin_cpu_supports("f16c");
    case Isa::avx512:
      return supported(Isa::avx2) && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512dq");
    case Isa::avx512_bf16:
      return supported(Isa::avx512) && __builtin_cpu_supports("avx512bf16") &&
             __builtin_cpu_supports("avx512vnni");
    case Isa::amx:
      return supported(Isa::avx512_bf16) && amx_permitted();
    default:
      return false;
  }
#elif defined(__aarch64__)
  static const ArmFeatures features = arm_features();
  switch (isa) {
    case Isa::neon:
      return true;
    case Isa::neon_dotprod:
      return features.dotprod;
    case Isa::neon_i8mm:
      return features.dotprod && features.i8mm;
    case Isa::neon_bf16:
      return supported(Isa::neon_i8mm) && features.bf16;
    default:
      return false;
  }
#else
  return false;
#endif
}

Isa select_isa() {
  const char* const forced = std::getenv("APAR_CPU");
  if (forced == nullptr || *forced == '\0') {
    Isa best = Isa::reference;
    for (const Isa isa : kAllIsas)
      if (supported(isa)) best = isa;
    return best;
  }
  std::string choices;
  for (const Isa isa : kAllIsas) {
    if (std::string(forced) == to_string(isa)) {
      if (supported(isa)) return isa;
      throw Error(ErrorCode::unavailable,
                  std::string("APAR_CPU=") + forced + ": this processor does not support it");
    }
    if (supported(isa)) choices += std::string(choices.empty() ? "" : ", ") + to_string(isa);
  }
  throw Error(ErrorCode::unavailable,
              std::string("APAR_CPU=") + forced + ": unknown; this processor has " + choices);
}

}  // namespace apar::cpu
