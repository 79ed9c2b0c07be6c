// Products of int8 and int4 weights on ARM, over what each instruction set defines for one group:
//   kIntRows                   rows of a tile
//   GroupInputs<kRows>         the 32 int8 activations of every row, with load(x, stride)
//   group_dots<kInt4, kRows>   their products with the weights of 4 outputs, without the weights' offset
// Sums within a group are exact, so all instruction sets give the same bits.

template <WeightFormat kWeights>
struct IntProduct {
  static constexpr WeightFormat kFormat = kWeights;
  static constexpr bool kInt4 = kWeights == WeightFormat::int4;
  static constexpr int64_t kTileRows = kIntRows;
  static constexpr int64_t kStepBytes = kInt4 ? kInt4GroupBytes : kInt8GroupBytes;
  static constexpr int64_t kInputBytes = kGroup + 8;
  static int64_t steps(int64_t in) { return groups(in); }

  template <int64_t kRows>
  static void run(const PanelSlice& s, Sums<kRows>& sums) {
    const std::byte *w = s.w, *x = s.x + s.first * kGroup, *prefetch = s.prefetch;
    const std::byte *scale = s.x + s.steps * kGroup + s.first * 4, *offset = scale + s.steps * 4;
    for (int64_t step = 0; step < s.count; ++step) {
      prefetch_lines(prefetch, s.prefetch_step);
      const auto inputs = GroupInputs<kRows>::load(x, s.x_stride);
      const std::byte* const weight_scales = w + kStepBytes - kPanel * 2;
      for (int64_t i = 0; i < kVecs; ++i) {
        const GroupWeights weights = load_group_weights<kInt4>(w + i * Vec::kLanes * 4);
        int32x4_t dots[kRows];
        group_dots<kInt4, kRows>(weights, inputs, {offset, s.x_stride}, dots);
        const Vec weight_scale = Vec::load_half(weight_scales + i * Vec::kLanes * 2);
        for (int64_t row = 0; row < kRows; ++row) {
          const Vec both = weight_scale * Vec::broadcast_f32(scale + row * s.x_stride);
          sums[row][i] = Vec::fma({vcvtq_f32_s32(dots[row])}, both, sums[row][i]);
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
