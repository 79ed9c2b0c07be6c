#pragma once

#include <cstddef>
#include <cstdint>

#include "common/matrix.h"

namespace apar::cpu {

// The layout "cpu1" (CpuOps::packed_layout): how the CPU keeps a linear layer w[outs, in] that is not f32:
// panels of 32 outputs, one after the other, each holding its outputs' weights in the order in which a
// product reads them, outputs as lanes. Outputs and inputs beyond the matrix are weights of zero. Every panel
// starts at a multiple of 64 bytes.
//   bf16  [in / 2][32 outputs][2]
//   int8  [in / 32 groups] of { [8][32 outputs][4] uint8: q + 128, [32] f16 scales }; weight = q * scale
//   int4  [in / 32 groups] of { [4][32 outputs][4] two weights: q + 8 of inputs i (low half) and i + 16,
//                               [32] f16 scales }
//
// The functions here are static because files compiled for one instruction set use them too.
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

// Activations as a product takes them, one row after the other:
//   bf16        [in / 2][2] bf16
//   int8, int4  [in / 32][32] int8, then [in / 32] f32 scales, then [in / 32] int32: what the weights' offset
//               (128 or 8) adds to a group's sum, negated
static constexpr int64_t prepared_bytes(WeightFormat format, int64_t in) {
  return round_up(format == WeightFormat::bf16 ? pairs(in) * 4 : groups(in) * (kGroup + 8), 64);
}
// Enough for every format.
static constexpr int64_t most_prepared_bytes(int64_t in) {
  return round_up(groups(in) * kGroup * 2, 64);
}

// Writes the panels [begin, end) of the matrix, in any dtype, to where panel `begin` starts. bf16 rounds to
// nearest even; int8 and int4 choose a scale per output and group of 32 inputs from its largest weight.
void pack_panels(const Matrix& w, WeightFormat format, int64_t begin, int64_t end, std::byte* packed);

}  // namespace apar::cpu
