// Dot products of bytes with the multiplications of ARMv8.0.

constexpr int64_t kIntRows = 2;

template <int64_t kRows>
struct GroupInputs {
  const std::byte* x;
  int64_t stride;

  static GroupInputs load(const std::byte* x, int64_t stride) { return {x, stride}; }
  // Inputs [quad * 4, quad * 4 + 4), in every lane.
  int8x16_t quad(int64_t row, int64_t quad) const {
    return vreinterpretq_s8_u32(Ints::broadcast(x + row * stride + quad * 4).v);
  }
};

// A sum of two products of int8 fits 16 bits, because activations and weights are at least -127; so does one
// of eight products with int4 weights.
template <bool kInt4, int64_t kRows>
inline void group_dots(const GroupWeights& w, const GroupInputs<kRows>& x, GroupOffsets offsets,
                       int32x4_t (&dots)[kRows]) {
  constexpr int64_t kQuads = kInt4 ? 8 : 2;  // whose products are added in 16 bits
  for (int64_t row = 0; row < kRows; ++row) {
    int32x4_t low = vdupq_n_s32(0), high = low;  // of outputs 0 and 1, 2 and 3; two partial sums of each
    for (int64_t begin = 0; begin < 8; begin += kQuads) {
      int16x8_t low_products = vdupq_n_s16(0), high_products = low_products;
      for (int64_t quad = begin; quad < begin + kQuads; ++quad) {
        const int8x16_t weights = kInt4 ? vreinterpretq_s8_u8(w.quad[quad]) : centred(w.quad[quad]);
        const int8x16_t inputs = x.quad(row, quad);
        low_products = vmlal_s8(low_products, vget_low_s8(weights), vget_low_s8(inputs));
        high_products = vmlal_high_s8(high_products, weights, inputs);
      }
      low = vpadalq_s16(low, low_products);
      high = vpadalq_s16(high, high_products);
    }
    dots[row] = vpaddq_s32(low, high);
    if constexpr (kInt4) dots[row] = vaddq_s32(dots[row], offsets.of(row));
  }
}
