#include "ops/cpu/packed.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#include "common/block_formats.h"
#include "common/convert.h"
#include "common/float16.h"

namespace apar::cpu {
namespace {

constexpr int32_t kInt8Offset = 128, kInt4Offset = 8;

// Inputs [group * 32, group * 32 + 32) of one output as f32; zeros beyond the matrix.
void read_group(const Matrix& w, int64_t out, int64_t group, float* values) {
  const int64_t first = group * kGroup;
  const int64_t count = out < w.rows ? std::min(kGroup, w.cols - first) : 0;
  std::fill(values + count, values + kGroup, 0.0f);
  if (count == 0) return;
  const auto* const source =
      static_cast<const std::byte*>(w.data) + stored_bytes(w.dtype, out * w.cols + first);
  convert(source, w.dtype, count, reinterpret_cast<std::byte*>(values), DType::f32);
}

// The weight of the largest magnitude with its sign, or NaN if one of them is NaN.
float largest(const float* values) {
  float found = 0;
  for (int64_t i = 0; i < kGroup; ++i) {
    if (std::isnan(values[i])) return values[i];
    if (std::abs(values[i]) > std::abs(found)) found = values[i];
  }
  return found;
}

// Rounds to the nearest integer in [low, high], ties to even: after adding 1.5 * 2^23 no fraction bits
// remain.
int32_t quantise(float value, float low, float high) {
  const float clamped = value > low ? (value < high ? value : high) : low;
  return static_cast<int32_t>((clamped + 12582912.0f) - 12582912.0f);
}

// Symmetric around zero, like the activations.
void put_int8(const float* values, std::optional<uint16_t> shared, int64_t out, std::byte* packed) {
  const uint16_t scale = shared ? *shared : f32_to_f16(std::abs(largest(values)) / 127);
  const float exact = f16_to_f32(scale), inverse = exact != 0 ? 1 / exact : 0;
  auto* const weights = reinterpret_cast<uint8_t*>(packed);
  for (int64_t i = 0; i < kGroup; ++i)
    weights[(i / 4 * kPanel + out) * 4 + i % 4] =
        static_cast<uint8_t>(quantise(values[i] * inverse, -127, 127) + kInt8Offset);
  std::memcpy(packed + kGroup * kPanel + out * 2, &scale, 2);
}

// The largest weight becomes -8, because the range is [-8, 7]; so the scale has the opposite sign of that
// weight.
void put_int4(const float* values, std::optional<uint16_t> shared, int64_t out, std::byte* packed) {
  constexpr int64_t kHalf = kGroup / 2;
  const uint16_t scale = shared ? *shared : f32_to_f16(largest(values) / -8);
  const float exact = f16_to_f32(scale), inverse = exact != 0 ? 1 / exact : 0;
  auto* const weights = reinterpret_cast<uint8_t*>(packed);
  for (int64_t i = 0; i < kHalf; ++i) {
    const int32_t low = quantise(values[i] * inverse, -8, 7) + kInt4Offset;
    const int32_t high = quantise(values[i + kHalf] * inverse, -8, 7) + kInt4Offset;
    weights[(i / 4 * kPanel + out) * 4 + i % 4] = static_cast<uint8_t>(low | high << 4);
  }
  std::memcpy(packed + kHalf * kPanel + out * 2, &scale, 2);
}

// A matrix as bf16: in `scratch` if it is stored otherwise.
Matrix as_bf16(const Matrix& w, std::vector<uint16_t>& scratch) {
  if (w.dtype == DType::bf16) return w;
  scratch.resize(static_cast<size_t>(w.rows * w.cols));
  convert(static_cast<const std::byte*>(w.data), w.dtype, w.rows * w.cols,
          reinterpret_cast<std::byte*>(scratch.data()), DType::bf16);
  return {scratch.data(), DType::bf16, w.rows, w.cols};
}

// A panel is the transpose of up to 32 rows, which `w` has, in units of two inputs.
void pack_bf16(const Matrix& w, std::byte* packed) {
  constexpr int64_t kTilePairs = 16;  // 64 bytes of each row at a time, so that a tile stays in the L1 cache
  const auto* const rows = static_cast<const uint16_t*>(w.data);
  const int64_t outs = w.rows, whole_pairs = w.cols / 2;
  auto* const to = reinterpret_cast<uint32_t*>(packed);
  for (int64_t begin = 0; begin < whole_pairs; begin += kTilePairs) {
    const int64_t end = std::min(begin + kTilePairs, whole_pairs);
    for (int64_t out = 0; out < outs; ++out)
      for (int64_t pair = begin; pair < end; ++pair)
        std::memcpy(to + pair * kPanel + out, rows + out * w.cols + pair * 2, sizeof(uint32_t));
    for (int64_t pair = begin; pair < end; ++pair)
      std::fill(to + pair * kPanel + outs, to + (pair + 1) * kPanel, 0u);
  }
  if (w.cols % 2 == 0) return;
  uint32_t* const last = to + whole_pairs * kPanel;
  std::fill(last, last + kPanel, 0u);
  for (int64_t out = 0; out < outs; ++out)
    std::memcpy(last + out, rows + (out + 1) * w.cols - 1, sizeof(uint16_t));
}

}  // namespace

void pack_panels(const Matrix& w, WeightFormat format, int64_t begin, int64_t end, std::byte* packed) {
  float values[kGroup];
  std::vector<float> scratch;
  std::vector<uint16_t> bf16_scratch;
  for (int64_t panel = begin; panel < end; ++panel) {
    const int64_t first = panel * kPanel;
    const Matrix stored = row_slice(w, first, std::min(kPanel, w.rows - first));
    if (format == WeightFormat::bf16) {
      pack_bf16(as_bf16(stored, bf16_scratch), packed);
      packed += panel_bytes(format, w.cols);
      continue;
    }
    const Matrix plain = with_plain_elements(stored, scratch);
    for (int64_t group = 0; group < groups(w.cols); ++group) {
      for (int64_t out = 0; out < kPanel; ++out) {
        read_group(plain, out, group, values);
        std::optional<uint16_t> shared;
        if (out < stored.rows) shared = shared_scale(stored, format, out, group);
        if (format == WeightFormat::int8)
          put_int8(values, shared, out, packed);
        else
          put_int4(values, shared, out, packed);
      }
      packed += format == WeightFormat::int8 ? kInt8GroupBytes : kInt4GroupBytes;
    }
  }
}

}  // namespace apar::cpu
