#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "common/float16.h"
#include "common/float8.h"
#include "ops/cuda/step/kv_layout.h"

namespace apar::test {

// The keys or values of one token and head, rounded as in the fp8 pool.
struct Fp8Head {
  std::vector<uint8_t> bytes;  // in the layout of the pool
  uint16_t scale = 0;
  std::vector<float> values;  // the numbers that the bytes represent, in the order of elements
};

inline Fp8Head fp8_head(std::span<const float> head) {
  const auto head_dim = static_cast<int32_t>(head.size());
  float largest = 0;
  bool finite = true;
  for (const float value : head) {
    finite = finite && std::isfinite(value);
    largest = std::max(largest, std::abs(value));
  }
  // The scale moves the largest magnitude into [128, 256).
  const int power = !finite ? 7 : largest > 0 ? std::clamp(std::ilogb(largest), -95, 14) - 7 : -102;
  Fp8Head made{std::vector<uint8_t>(head.size()), cuda::kNanScale, {}};
  if (finite) made.scale = f32_to_bf16(std::ldexp(1.0f, power + 120));
  for (int32_t d = 0; d < head_dim; ++d) {
    const uint8_t bits = f32_to_e4m3(std::isnan(head[d]) ? kLargestE4m3 : std::ldexp(head[d], -power));
    made.bytes[cuda::fp8_place(d, head_dim)] = bits;
    made.values.push_back(finite ? std::ldexp(e4m3_to_f32(bits), power) : std::nanf(""));
  }
  return made;
}

// The fp8 pool of one layer on the host. Tokens that were never put hold 0xff bytes.
struct Fp8Pool {
  std::vector<uint8_t> keys, values;
  std::vector<cuda::KvScale> scales;

  Fp8Pool(size_t tokens, int32_t head_dim)
      : keys(tokens * static_cast<size_t>(head_dim), 0xff),
        values(keys.size(), 0xff),
        scales(tokens, {0xffff, 0xffff}) {}
  bool operator==(const Fp8Pool&) const = default;

  void put(size_t token, std::span<const float> key, std::span<const float> value) {
    const Fp8Head k = fp8_head(key), v = fp8_head(value);
    std::copy(k.bytes.begin(), k.bytes.end(), keys.begin() + static_cast<ptrdiff_t>(token * key.size()));
    std::copy(v.bytes.begin(), v.bytes.end(), values.begin() + static_cast<ptrdiff_t>(token * key.size()));
    scales[token] = {k.scale, v.scale};
  }
};

}  // namespace apar::test
