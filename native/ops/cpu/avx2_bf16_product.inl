// The product of one panel with bf16 weights: factors are widened exactly, then multiplied in f32, the even
// element of a pair before the odd one. Widening takes ports that multiply: rows share the widened weights,
// and the outputs of a part the widened activations.

// The activations of kRows rows in the steps of one part.
template <int64_t kRows>
struct WideInputs {
  alignas(32) float even[kRows][kPartSteps], odd[kRows][kPartSteps];

  void load(const std::byte* x, int64_t x_stride, int64_t count) {
    for (int64_t row = 0; row < kRows; ++row)
      for_each_vector(count, [&](int64_t step, int64_t lanes) {
        const auto* const from = reinterpret_cast<const float*>(x + row * x_stride + step * 4);
        const Ints pairs = {_mm256_castps_si256(load_lanes(from, lanes).v)};
        even_bf16(pairs).store(even[row] + step);
        odd_bf16(pairs).store(odd[row] + step);
      });
  }
};

struct Bf16Product {
  static constexpr WeightFormat kFormat = WeightFormat::bf16;
  static constexpr int64_t kTileRows = 6;  // with half a panel: 12 sums, 2 halves of weights, 1 activation
  static constexpr int64_t kStepBytes = kPanel * 4;
  static constexpr int64_t kInputBytes = 4;  // prepared bytes of one row in one step
  static int64_t steps(int64_t in) { return pairs(in); }

  template <int64_t kRows>
  static void run(const PanelSlice& s, Sums<kRows>& sums) {
    if constexpr (kRows <= 2)
      whole_panel<kRows>(s, sums);
    else
      half_panels<kRows>(s, sums);
  }

 private:
  // Few rows wait for memory, of which this reads one stream.
  template <int64_t kRows>
  static void whole_panel(const PanelSlice& s, Sums<kRows>& sums) {
    const std::byte *w = s.w, *x = s.x + s.first * 4, *prefetch = s.prefetch;
    for (int64_t step = 0; step < s.count; ++step, w += kStepBytes, x += 4, prefetch += s.prefetch_step) {
      prefetch_lines(prefetch, kStepBytes);
      for (int64_t i = 0; i < kVecs; ++i) {
        const Ints weights = Ints::load(w + i * Vec::kLanes * 4);
        for (int64_t row = 0; row < kRows; ++row)
          sums[row][i] = dot_bf16(sums[row][i], weights, Ints::broadcast(x + row * s.x_stride));
      }
    }
  }

  template <int64_t kRows>
  static void half_panels(const PanelSlice& s, Sums<kRows>& sums) {
    constexpr int64_t kHalf = kVecs / 2;
    WideInputs<kRows> inputs;
    for_each_part<kHalf>(s, [&]<int64_t>(const PanelPart& part) {
      if (part.vec == 0) inputs.load(part.x, s.x_stride, part.count);
      Vec local[kRows][kHalf];
      for (int64_t row = 0; row < kRows; ++row)
        for (int64_t i = 0; i < kHalf; ++i) local[row][i] = sums[row][part.vec + i];
      const std::byte *w = part.w, *prefetch = part.prefetch;
      for (int64_t step = 0; step < part.count; ++step, w += kStepBytes, prefetch += s.prefetch_step) {
        prefetch_part<kHalf>(prefetch);
        add_elements<even_bf16>(w, inputs.even, step, local);
        add_elements<odd_bf16>(w, inputs.odd, step, local);
      }
      for (int64_t row = 0; row < kRows; ++row)
        for (int64_t i = 0; i < kHalf; ++i) sums[row][part.vec + i] = local[row][i];
    });
  }

  // Adds the products of the elements that kWiden takes from one pair of inputs.
  template <auto kWiden, int64_t kRows, int64_t kWidth>
  static void add_elements(const std::byte* w, const float (&inputs)[kRows][kPartSteps], int64_t step,
                           Vec (&sums)[kRows][kWidth]) {
    Vec weights[kWidth];
    for (int64_t i = 0; i < kWidth; ++i) weights[i] = kWiden(Ints::load(w + i * Vec::kLanes * 4));
    for (int64_t row = 0; row < kRows; ++row) {
      const Vec input = Vec::broadcast(inputs[row][step]);
      for (int64_t i = 0; i < kWidth; ++i) sums[row][i] = Vec::fma(weights[i], input, sums[row][i]);
    }
  }
};
