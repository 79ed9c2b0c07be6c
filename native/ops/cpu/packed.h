#pragma once

#include <cstddef>
#include <cstdint>

#include "common/matrix.h"

namespace apar::cpu {

// The layout "cpu1" (CpuOps::packed_layout), in which the CPU stores a linear layer w[outs, in] that is not
// f32. A panel holds the weights of 32 outputs in the order in which a product reads them, with outputs as
// SIMD lanes. Panels follow one another. Padding outputs and inputs have weights of zero. Every panel starts
// at a multiple of 64 bytes.
//   bf16  [in / 2][32 outputs][2]
//   int8  [in / 32 groups] of { [8][32 outputs][4] uint8: q + 128, [32] f16 scales }; weight = q * scale
//   int4  [in / 32 groups] of { [4][32 outputs][4] two weights: q + 8 of inputs i (low half) and i + 16,
//                               [32] f16 scales }
//
// The functions here are static because the files that are compiled for one instruction set include them too.
constexpr int64_t kPanel = 32;
constexpr int64_t kGroup = 32;

constexpr int64_t kInt8GroupBytes = kGroup * kPanel + kPanel * 2;
constexpr int64_t kInt4GroupBytes = kGroup * kPanel / 2 + kPanel * 2;

static constexpr int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}
static constexpr int64_t panels(int64_t outs) {
  return (outs + kPanel - 1) / kPanel;
}
static constexpr int64_t pairs(int64_t in) {
  return (in + 1) / 2;
}
static constexpr int64_t groups(int64_t in) {
  return (in + kGroup - 1) / kGroup;
}

static constexpr int64_t panel_bytes(WeightFormat format, int64_t in) {
  if (format == WeightFormat::bf16) return pairs(in) * kPanel * 4;
  return groups(in) * (format == WeightFormat::int8 ? kInt8GroupBytes : kInt4GroupBytes);
}

// An odd number of cache lines, so that rows do not compete for the same sets of a cache.
static constexpr int64_t odd_lines(int64_t bytes) {
  return round_up(bytes, 64) | 64;
}

// The bytes of a row of prepared activations, the form that a product reads. Rows follow one another:
//   bf16        [in / 2][2] bf16
//   int8, int4  [in / 32][32] int8, then [in / 32] f32 scales, then [in / 32] int32 corrections: the negative
//   of
//               what the weights' offset (128 or 8) adds to a group's sum
static constexpr int64_t prepared_bytes(WeightFormat format, int64_t in) {
  return odd_lines(format == WeightFormat::bf16 ? pairs(in) * 4 : groups(in) * (kGroup + 8));
}
// The maximum over all formats.
static constexpr int64_t max_prepared_bytes(int64_t in) {
  return odd_lines(groups(in) * kGroup * 2);
}

// Packs the panels [begin, end) of a matrix of any dtype. `packed` is where panel `begin` starts. bf16 rounds
// to nearest even; int8 and int4 have a scale per output and group of 32 inputs, from the group's largest
// weight.
void pack_panels(const Matrix& w, WeightFormat format, int64_t begin, int64_t end, std::byte* packed);

}  // namespace apar::cpu
