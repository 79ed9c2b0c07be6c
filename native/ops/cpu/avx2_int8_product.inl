// The product of one panel with int8 weights without VNNI: rows share the weights that are widened to 16 bits,
// and vectors of outputs the widened activations. Sums of a group are exact, so only the chain over groups
// decides the bits.

// The activations of one group of every row, widened: the inputs 0 and 2, then 1 and 3, of every 4.
template <int64_t kRows>
struct GroupInputs {
  alignas(32) int32_t pairs[kRows][16];

  void load(const std::byte* x, int64_t stride) {
    const __m256i order =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15));
    for (int64_t row = 0; row < kRows; ++row) {
      const __m256i ordered = _mm256_shuffle_epi8(Ints::load(x + row * stride).v, order);
      auto* const to = reinterpret_cast<__m256i*>(pairs[row]);
      _mm256_store_si256(to, _mm256_cvtepi8_epi16(_mm256_castsi256_si128(ordered)));
      _mm256_store_si256(to + 1, _mm256_cvtepi8_epi16(_mm256_extracti128_si256(ordered, 1)));
    }
  }
  __m256i pair(int64_t row, int64_t pair) const { return _mm256_set1_epi32(pairs[row][pair]); }
};

// The integer dots of kRows rows with kPart vectors of outputs, of which the weights of a quad of inputs
// start at w, without the correction for the weights' offset.
template <int64_t kRows, int64_t kPart>
inline void group_dots(const std::byte* w, const GroupInputs<kRows>& x, __m256i (&dots)[kRows][kPart]) {
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t i = 0; i < kPart; ++i) dots[row][i] = _mm256_setzero_si256();
  for (int64_t quad = 0; quad < kGroup / 4; ++quad) {
    __m256i even[kPart], odd[kPart];
    for (int64_t i = 0; i < kPart; ++i) {
      const __m256i weights = Ints::load(w + quad * kPanel * 4 + i * 32).v;
      even[i] = _mm256_and_si256(weights, _mm256_set1_epi16(255));
      odd[i] = _mm256_srli_epi16(weights, 8);
    }
    for (int64_t row = 0; row < kRows; ++row) {
      const __m256i x_even = x.pair(row, quad * 2);
      const __m256i x_odd = x.pair(row, quad * 2 + 1);
      for (int64_t i = 0; i < kPart; ++i) {
        dots[row][i] = _mm256_add_epi32(dots[row][i], _mm256_madd_epi16(even[i], x_even));
        dots[row][i] = _mm256_add_epi32(dots[row][i], _mm256_madd_epi16(odd[i], x_odd));
      }
    }
  }
}

template <>
struct IntProduct<WeightFormat::int8> {
  static constexpr WeightFormat kFormat = WeightFormat::int8;
  static constexpr int64_t kTileRows = 4;  // with half a panel: 8 integer sums, 4 halves of weights, 2 inputs
  static constexpr int64_t kStepBytes = kInt8GroupBytes;
  static constexpr int64_t kInputBytes = kGroup + 8;
  static int64_t steps(int64_t in) { return groups(in); }

  template <int64_t kRows>
  static void run(const PanelSlice& s, Sums<kRows>& sums) {
    constexpr int64_t kPart = kRows == 1 ? kVecs : 2;
    const std::byte *w = s.w, *x = s.x + s.first * kGroup, *prefetch = s.prefetch;
    const std::byte *scale = s.x + s.steps * kGroup + s.first * 4, *offset = scale + s.steps * 4;
    for (int64_t step = 0; step < s.count; ++step) {
      prefetch_lines(prefetch, s.prefetch_step);
      GroupInputs<kRows> inputs;
      inputs.load(x, s.x_stride);
      const std::byte* const weight_scales = w + kStepBytes - kPanel * 2;
      for (int64_t first = 0; first < kVecs; first += kPart) {
        __m256i dots[kRows][kPart];
        group_dots<kRows, kPart>(w + first * 32, inputs, dots);
        for (int64_t i = 0; i < kPart; ++i) {
          const Vec weight_scale = Vec::load_half(weight_scales + (first + i) * Vec::kLanes * 2);
          for (int64_t row = 0; row < kRows; ++row) {
            const Ints corrected = {
                _mm256_add_epi32(dots[row][i], Ints::broadcast(offset + row * s.x_stride).v)};
            const Vec both = weight_scale * Vec::broadcast_f32(scale + row * s.x_stride);
            sums[row][first + i] = Vec::fma(to_floats(corrected), both, sums[row][first + i]);
          }
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
