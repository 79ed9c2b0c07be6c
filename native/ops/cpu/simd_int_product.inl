// The products of one panel with int8 and int4 weights, with Vec, Ints, dot_u8s8 and dot_u4s8
// (simd_kernels.inl).

template <WeightFormat kWeights>
struct IntProduct {
  static constexpr WeightFormat kFormat = kWeights;
  static constexpr bool kInt4 = kWeights == WeightFormat::int4;
  static constexpr int64_t kTileRows = Vec::kIntRows;
  static constexpr int64_t kStepBytes = kInt4 ? kInt4GroupBytes : kInt8GroupBytes;
  static constexpr int64_t kInputBytes = kGroup + 8;
  static int64_t steps(int64_t in) { return groups(in); }

  template <int64_t kRows>
  static void run(const PanelSlice& s, Sums<kRows>& sums) {
    const std::byte *w = s.w, *x = s.x + s.first * kGroup, *prefetch = s.prefetch;
    const std::byte *scale = s.x + s.steps * kGroup + s.first * 4, *offset = scale + s.steps * 4;
    for (int64_t step = 0; step < s.count; ++step) {
      prefetch_lines(prefetch, s.prefetch_step);
      Ints dots[kRows][kVecs];
      for (int64_t row = 0; row < kRows; ++row)
        for (int64_t i = 0; i < kVecs; ++i) dots[row][i] = Ints::broadcast(offset + row * s.x_stride);
      for (int64_t quad = 0; quad < (kInt4 ? kGroup / 8 : kGroup / 4); ++quad) {
        for (int64_t i = 0; i < kVecs; ++i) {
          const Ints weight = Ints::load(w + (quad * kVecs + i) * Vec::kLanes * 4);
          for (int64_t row = 0; row < kRows; ++row) {
            const std::byte* const inputs = x + row * s.x_stride + quad * 4;
            if constexpr (kInt4) {
              dots[row][i] = dot_u4s8(dots[row][i], low_nibbles(weight), Ints::broadcast(inputs));
              dots[row][i] =
                  dot_u4s8(dots[row][i], high_nibbles(weight), Ints::broadcast(inputs + kGroup / 2));
            } else {
              dots[row][i] = dot_u8s8(dots[row][i], weight, Ints::broadcast(inputs));
            }
          }
        }
      }
      const std::byte* const weight_scales = w + kStepBytes - kPanel * 2;
      for (int64_t i = 0; i < kVecs; ++i) {
        const Vec weight_scale = Vec::load_half(weight_scales + i * Vec::kLanes * 2);
        for (int64_t row = 0; row < kRows; ++row) {
          const Vec both = weight_scale * Vec::broadcast_f32(scale + row * s.x_stride);
          sums[row][i] = Vec::fma(to_floats(dots[row][i]), both, sums[row][i]);
        }
      }
      w += kStepBytes;
      x += kGroup;
      scale += 4;
      offset += 4;
      prefetch += s.prefetch_step;
    }
  }
};
