#include "ops/cuda/emulator/emulate_mma.h"

#include <cstring>

#include "common/float16.h"
#include "ops/cuda/emulator/emulate.h"

namespace apar::cuda::emulate {
namespace {

constexpr int kRows = 16, kColumns = 8, kDepth = 16;

struct MmaIn {
  uint32_t a[4], b[2];
  float c[4];
};
struct MmaOut {
  float c[4];
};

float half_of(uint32_t pair, int which) {
  return bf16_to_f32(static_cast<uint16_t>(which == 0 ? pair : pair >> 16));
}

void multiply(const void* const* ins, void* const* outs) {
  float a[kRows][kDepth], b[kDepth][kColumns];
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const MmaIn& in = *static_cast<const MmaIn*>(ins[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < 4; ++i) a[g + 8 * (i % 2)][2 * t + half + 8 * (i / 2)] = half_of(in.a[i], half);
      for (int i = 0; i < 2; ++i) b[2 * t + half + 8 * i][g] = half_of(in.b[i], half);
    }
  }
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const MmaIn& in = *static_cast<const MmaIn*>(ins[lane]);
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
      double sum = 0;  // the products are exact; the order in which the hardware adds them is not documented
      for (int k = 0; k < kDepth; ++k) sum += double{a[row][k]} * b[k][column];
      static_cast<MmaOut*>(outs[lane])->c[i] = static_cast<float>(in.c[i] + sum);
    }
  }
}

template <bool transposed>
void distribute(const void* const* rows, void* const* outs) {
  for (int lane = 0; lane < kWarpSize; ++lane) {
    auto* const out = static_cast<uint32_t*>(outs[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int matrix = 0; matrix < 4; ++matrix) {
      uint16_t pair[2];
      for (int i = 0; i < 2; ++i) {
        const int row = transposed ? 2 * t + i : g, column = transposed ? g : 2 * t + i;
        std::memcpy(&pair[i], static_cast<const unsigned char*>(rows[8 * matrix + row]) + 2 * column, 2);
      }
      out[matrix] = pair[0] | static_cast<uint32_t>(pair[1]) << 16;
    }
  }
}

}  // namespace

void mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const MmaIn in = {{a[0], a[1], a[2], a[3]}, {b0, b1}, {c[0], c[1], c[2], c[3]}};
  MmaOut out;
  sync_warp("mma", &in, &out, multiply);
  std::memcpy(c, out.c, sizeof(out.c));
}

void load_matrices(uint32_t (&out)[4], const void* row, bool transposed) {
  if (transposed)
    sync_warp("ldmatrix.trans", row, out, distribute<true>);
  else
    sync_warp("ldmatrix", row, out, distribute<false>);
}

}  // namespace apar::cuda::emulate
