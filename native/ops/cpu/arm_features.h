#pragma once

namespace apar::cpu {

// The optional extensions of ARMv8 that have kernels; NEON itself is never missing on a 64-bit processor.
struct ArmFeatures {
  bool dotprod = false;  // FEAT_DotProd: SDOT, UDOT
  bool i8mm = false;     // FEAT_I8MM: USDOT, USMMLA
  bool bf16 = false;     // FEAT_BF16: BFDOT, BFMMLA
};

// Those of this processor, as Linux or macOS report them; none under other systems and on other processors.
ArmFeatures arm_features();

}  // namespace apar::cpu
