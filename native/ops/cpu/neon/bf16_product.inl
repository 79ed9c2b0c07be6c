// The bf16 product of processors without bf16 instructions: factors are widened exactly, then multiplied in
// f32, the even element of a pair before the odd one.

// sum += w · x for a pair of bf16 per lane.
Vec dot_bf16(Vec sum, Ints w, Ints x) {
  const float32x4_t even = vfmaq_f32(sum.v, even_bf16(w.v), even_bf16(x.v));
  return {vfmaq_f32(even, odd_bf16(w.v), odd_bf16(x.v))};
}

struct Bf16Product {
  static constexpr WeightFormat kFormat = WeightFormat::bf16;
  static constexpr int64_t kTileRows = 5;  // with half a panel: 20 sums, 5 activations, 2 halves of a weight
  static constexpr int64_t kStepBytes = kPanel * 4;
  static constexpr int64_t kInputBytes = 4;  // prepared bytes of one row in one step
  static int64_t steps(int64_t in) { return pairs(in); }

  template <int64_t kRows>
  static void run(const PanelSlice& s, Sums<kRows>& sums) {
    for_each_part<kRows <= 2 ? kVecs : kVecs / 2>(s, [&]<int64_t kWidth>(const PanelPart& part) {
      Vec local[kRows][kWidth];
      for (int64_t row = 0; row < kRows; ++row)
        for (int64_t i = 0; i < kWidth; ++i) local[row][i] = sums[row][part.vec + i];
      const std::byte *w = part.w, *x = part.x, *prefetch = part.prefetch;
      int64_t step = 0;
      for (; step + 2 <= part.count; step += 2, w += kStepBytes * 2, x += 8) {
        prefetch_part<kWidth>(prefetch);
        prefetch_part<kWidth>(prefetch + s.prefetch_step);
        prefetch += s.prefetch_step * 2;
        Vec inputs[kRows];
        for (int64_t row = 0; row < kRows; ++row)
          inputs[row] = Vec::load(reinterpret_cast<const uint16_t*>(x + row * s.x_stride));
        add_pairs<kRows, kWidth, 0>(w, inputs, local);
        add_pairs<kRows, kWidth, 2>(w + kStepBytes, inputs, local);
      }
      if (step < part.count) {
        Vec inputs[kRows];
        for (int64_t row = 0; row < kRows; ++row) {
          const uint32x4_t pair = Ints::broadcast(x + row * s.x_stride).v;
          inputs[row] = {vzip1q_f32(even_bf16(pair), odd_bf16(pair))};
        }
        add_pairs<kRows, kWidth, 0>(w, inputs, local);
      }
      for (int64_t row = 0; row < kRows; ++row)
        for (int64_t i = 0; i < kWidth; ++i) sums[row][part.vec + i] = local[row][i];
    });
  }

 private:
  // Adds the products of one pair of inputs: the lanes kLane and kLane + 1 of `inputs`.
  template <int64_t kRows, int64_t kWidth, int kLane>
  static void add_pairs(const std::byte* w, const Vec (&inputs)[kRows], Vec (&sums)[kRows][kWidth]) {
    for (int64_t i = 0; i < kWidth; ++i) {
      const uint32x4_t weights = Ints::load(w + i * Vec::kLanes * 4).v;
      const float32x4_t even = even_bf16(weights), odd = odd_bf16(weights);
      for (int64_t row = 0; row < kRows; ++row) {
        const float32x4_t x = inputs[row].v;
        sums[row][i].v = vfmaq_laneq_f32(vfmaq_laneq_f32(sums[row][i].v, even, x, kLane), odd, x, kLane + 1);
      }
    }
  }
};
