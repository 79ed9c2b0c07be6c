#pragma once

#include <cstdint>
#include <random>
#include <type_traits>

namespace apar::test {

// Written out because the distributions of the standard library differ between systems.

// Uniform in [-1, 1).
inline float random_float(std::mt19937& random) {
  return static_cast<float>(static_cast<int32_t>(random() >> 8) - (1 << 23)) * 0x1p-23f;
}

// Uniform in [from, to].
template <class From, class To>
std::common_type_t<From, To> random_int(std::mt19937& random, From from, To to) {
  using Int = std::common_type_t<From, To>;
  return static_cast<Int>(from +
                          static_cast<Int>(random() % static_cast<std::make_unsigned_t<Int>>(to - from + 1)));
}

}  // namespace apar::test
