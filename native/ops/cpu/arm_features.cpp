#include "ops/cpu/arm_features.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>

#include <cstddef>
#include <cstdint>
#endif

namespace apar::cpu {

#if defined(__aarch64__) && defined(__linux__)

ArmFeatures arm_features() {
  // HWCAP_ASIMDDP, HWCAP2_I8MM and HWCAP2_BF16 of <asm/hwcap.h>, whose older versions lack the last two.
  constexpr unsigned long kDotprod = 1ul << 20, kI8mm = 1ul << 13, kBf16 = 1ul << 14;
  const unsigned long first = ::getauxval(AT_HWCAP), second = ::getauxval(AT_HWCAP2);
  return {.dotprod = (first & kDotprod) != 0, .i8mm = (second & kI8mm) != 0, .bf16 = (second & kBf16) != 0};
}

#elif defined(__aarch64__) && defined(__APPLE__)

namespace {

bool has(const char* name) {
  int32_t value = 0;
  size_t size = sizeof(value);
  return ::sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}

}  // namespace

ArmFeatures arm_features() {
  return {.dotprod = has("hw.optional.arm.FEAT_DotProd"),
          .i8mm = has("hw.optional.arm.FEAT_I8MM"),
          .bf16 = has("hw.optional.arm.FEAT_BF16")};
}

#else

ArmFeatures arm_features() {
  return {};
}

#endif

}  // namespace apar::cpu
