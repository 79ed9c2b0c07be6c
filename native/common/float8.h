#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace apar {

constexpr float kLargestE4m3 = 448;

// OCP 8-bit floating point, e4m3: sign, 4 bits of exponent (bias 7), 3 of mantissa; no infinity, 0x7f is NaN.
inline float e4m3_to_f32(uint8_t bits) {
  const int exponent = bits >> 3 & 15, mantissa = bits & 7;
  if (exponent == 15 && mantissa == 7) return std::bit_cast<float>(0x7fc00000u);
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                        : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return bits & 0x80 ? -magnitude : magnitude;
}

// Rounds to nearest even; larger values become the largest one (saturation), NaN stays NaN.
inline uint8_t f32_to_e4m3(float value) {
  if (std::isnan(value)) return 0x7f;
  const auto sign = static_cast<uint8_t>(std::signbit(value) ? 0x80 : 0);
  const float magnitude = std::min(std::abs(value), kLargestE4m3);
  // The magnitude in eighths of the power of two at or below it, at least of the smallest normal number.
  const int power = std::max(magnitude > 0 ? std::ilogb(magnitude) : -6, -6);
  const auto eighths = static_cast<int>(std::lrint(std::ldexp(magnitude, 3 - power)));
  // 16 eighths are 8 eighths of the next power: the addition carries into the exponent.
  return sign | static_cast<uint8_t>(((power + 6) << 3) + eighths);
}

}  // namespace apar
