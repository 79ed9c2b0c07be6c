// The bf16 product with FEAT_BF16: one row by BFDOT, two rows at a time by BFMMLA, which multiplies 2 x 4
// with 4 x 2 elements. BFMMLA is defined as two BFDOT after one another (with FPCR.EBF = 0, which is where a
// process starts), so a row has the same bits with and without a partner. Both treat subnormals as zero.

inline bfloat16x8_t as_bf16(uint32x4_t pairs) {
  return vreinterpretq_bf16_u32(pairs);
}

// sum += w · x for a pair of bf16 per lane.
Vec dot_bf16(Vec sum, Ints w, Ints x) {
  return {vbfdotq_f32(sum.v, as_bf16(w.v), as_bf16(x.v))};
}

// Lanes 0 and 1 of both, or lanes 2 and 3.
inline Vec low_halves(Vec a, Vec b) {
  return {vcombine_f32(vget_low_f32(a.v), vget_low_f32(b.v))};
}
inline Vec high_halves(Vec a, Vec b) {
  return {vcombine_f32(vget_high_f32(a.v), vget_high_f32(b.v))};
}

struct Bf16Product {
  static constexpr WeightFormat kFormat = WeightFormat::bf16;
  static constexpr int64_t kTileRows = 8;  // with 2 vectors: 16 sums, 4 pairs of rows, 4 pairs of outputs
  static constexpr int64_t kStepBytes = kPanel * 4;
  static constexpr int64_t kInputBytes = 4;  // prepared bytes of one row in one step
  static int64_t steps(int64_t in) { return pairs(in); }

  template <int64_t kRows>
  static void run(const PanelSlice& s, Sums<kRows>& sums) {
    constexpr int64_t kWidth = kRows == 1 ? kVecs : kRows <= 4 ? 4 : 2;
    for_each_part<kWidth>(s, [&]<int64_t>(const PanelPart& part) {
      Vec local[kRows][kWidth];
      for (int64_t row = 0; row < kRows; ++row)
        for (int64_t i = 0; i < kWidth; ++i) local[row][i] = sums[row][part.vec + i];
      run_part<kRows, kWidth>(part, s.x_stride, s.prefetch_step, local);
      for (int64_t row = 0; row < kRows; ++row)
        for (int64_t i = 0; i < kWidth; ++i) sums[row][part.vec + i] = local[row][i];
    });
  }

 private:
  template <int64_t kRows, int64_t kWidth>
  static void run_part(const PanelPart& part, int64_t x_stride, int64_t prefetch_step,
                       Vec (&sums)[kRows][kWidth]) {
    const std::byte *w = part.w, *x = part.x, *prefetch = part.prefetch;
    exchange_halves(sums);
    int64_t step = 0;
    for (; step + 2 <= part.count; step += 2, w += kStepBytes * 2, x += 8, prefetch += prefetch_step * 2) {
      prefetch_part<kWidth>(prefetch);
      prefetch_part<kWidth>(prefetch + prefetch_step);
      uint32x2_t inputs[kRows];
      for (int64_t row = 0; row < kRows; ++row)
        inputs[row] = vreinterpret_u32_u8(vld1_u8(reinterpret_cast<const uint8_t*>(x + row * x_stride)));
      for (int64_t i = 0; i < kWidth; ++i) {
        const uint32x4_t first = Ints::load(w + i * Vec::kLanes * 4).v,
                         second = Ints::load(w + kStepBytes + i * Vec::kLanes * 4).v;
        for (int64_t row = 0; row + 2 <= kRows; row += 2) {
          const bfloat16x8_t both = as_bf16(vcombine_u32(inputs[row], inputs[row + 1]));
          sums[row][i].v = vbfmmlaq_f32(sums[row][i].v, both, as_bf16(vzip1q_u32(first, second)));
          sums[row + 1][i].v = vbfmmlaq_f32(sums[row + 1][i].v, both, as_bf16(vzip2q_u32(first, second)));
        }
        if constexpr (kRows % 2 != 0) {
          const bfloat16x4_t alone = vreinterpret_bf16_u32(inputs[kRows - 1]);
          float32x4_t& sum = sums[kRows - 1][i].v;
          sum = vbfdotq_lane_f32(vbfdotq_lane_f32(sum, as_bf16(first), alone, 0), as_bf16(second), alone, 1);
        }
      }
    }
    exchange_halves(sums);
    if (step == part.count) return;
    for (int64_t row = 0; row < kRows; ++row) {
      const Ints pair = Ints::broadcast(x + row * x_stride);
      for (int64_t i = 0; i < kWidth; ++i)
        sums[row][i] = dot_bf16(sums[row][i], Ints::load(w + i * Vec::kLanes * 4), pair);
    }
  }

  // Between the sums of two rows, each for 4 outputs, and those of BFMMLA, each for 2 outputs of both rows.
  template <int64_t kRows, int64_t kWidth>
  static void exchange_halves(Vec (&sums)[kRows][kWidth]) {
    for (int64_t row = 0; row + 2 <= kRows; row += 2)
      for (int64_t i = 0; i < kWidth; ++i) {
        const Vec even = sums[row][i], odd = sums[row + 1][i];
        sums[row][i] = low_halves(even, odd);
        sums[row + 1][i] = high_halves(even, odd);
      }
  }
};
