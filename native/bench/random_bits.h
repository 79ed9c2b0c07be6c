#pragma once

#include <cstdint>
#include <span>

namespace apar::bench {

// Pseudo-random bf16 numbers with random signs and mantissas and one exponent, the same on every call: the
// time of a kernel depends on nothing else about its data. Every pair of them is also a finite f32.
inline void fill_random_bf16(std::span<uint16_t> values) {
  uint32_t state = 1;
  for (uint16_t& value : values) {
    state = state * 1664525u + 1013904223u;  // Numerical Recipes' linear congruential generator
    value = static_cast<uint16_t>(((state >> 16) & 0x807fu) | 0x3c80u);
  }
}

}  // namespace apar::bench
