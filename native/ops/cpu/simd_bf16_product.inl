// The product of one panel with bf16 weights, with Vec, Ints and dot_bf16 (simd_kernels.inl).

struct Bf16Product {
  static constexpr WeightFormat kFormat = WeightFormat::bf16;
  static constexpr int64_t kTileRows = Vec::kBf16Rows;
  static constexpr int64_t kStepBytes = kPanel * 4;
  static constexpr int64_t kInputBytes = 4;  // prepared bytes of one row in one step
  static int64_t steps(int64_t in) { return pairs(in); }

  template <int64_t kRows>
  static void run(const PanelSlice& s, Sums<kRows>& sums) {
    const std::byte *w = s.w, *x = s.x + s.first * 4, *prefetch = s.prefetch;
    for (int64_t step = 0; step < s.count; ++step, w += kStepBytes, x += 4, prefetch += s.prefetch_step) {
      prefetch_line(prefetch);
      // Few rows fit one tile, which reads the weights only once: it prefetches both cache lines of a step.
      if constexpr (kRows <= kTileRows / 2) prefetch_line(prefetch + 64);
      Ints weight[kVecs];
      for (int64_t i = 0; i < kVecs; ++i) weight[i] = Ints::load(w + i * Vec::kLanes * 4);
      for (int64_t row = 0; row < kRows; ++row) {
        const Ints pair = Ints::broadcast(x + row * s.x_stride);
        for (int64_t i = 0; i < kVecs; ++i) sums[row][i] = dot_bf16(sums[row][i], weight[i], pair);
      }
    }
  }
};
