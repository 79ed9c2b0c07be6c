// Dot products of bytes with FEAT_I8MM: two rows at a time by USMMLA, which multiplies 2 x 8 unsigned with
// 8 x 2 signed bytes, and an odd row by USDOT. Both take the weights as they are stored.

constexpr int64_t kIntRows = 8;

template <int64_t kRows>
struct GroupInputs {
  static constexpr int64_t kPairs = kRows / 2;

  int8x16_t pair[kPairs + 1][4];  // 8 inputs of the even row, then the same inputs of the odd row
  int8x16_t last[2];              // of the row without a partner

  static GroupInputs load(const std::byte* x, int64_t stride) {
    const auto* const bytes = reinterpret_cast<const int8_t*>(x);
    GroupInputs inputs;
    for (int64_t pair = 0; pair < kPairs; ++pair)
      for (int64_t i = 0; i < 4; ++i)
        inputs.pair[pair][i] = vcombine_s8(vld1_s8(bytes + pair * 2 * stride + i * 8),
                                           vld1_s8(bytes + (pair * 2 + 1) * stride + i * 8));
    if constexpr (kRows % 2 != 0)
      for (int64_t i = 0; i < 2; ++i) inputs.last[i] = vld1q_s8(bytes + (kRows - 1) * stride + i * 16);
    return inputs;
  }
};

template <bool kInt4, int64_t kRows>
inline void group_dots(const GroupWeights& w, const GroupInputs<kRows>& x, GroupOffsets offsets,
                       int32x4_t (&dots)[kRows]) {
  if constexpr (kRows > 1) {
    int32x4_t low[kRows / 2], high[kRows / 2];  // of outputs 0 and 1, 2 and 3; each of both rows
    for (int64_t pair = 0; pair < kRows / 2; ++pair) low[pair] = high[pair] = vdupq_n_s32(0);
    for (int64_t i = 0; i < 4; ++i) {
      const uint32x4_t even = vreinterpretq_u32_u8(w.quad[i * 2]),
                       odd = vreinterpretq_u32_u8(w.quad[i * 2 + 1]);
      const uint8x16_t low_weights = vreinterpretq_u8_u32(vzip1q_u32(even, odd)),
                       high_weights = vreinterpretq_u8_u32(vzip2q_u32(even, odd));
      for (int64_t pair = 0; pair < kRows / 2; ++pair) {
        low[pair] = vusmmlaq_s32(low[pair], low_weights, x.pair[pair][i]);
        high[pair] = vusmmlaq_s32(high[pair], high_weights, x.pair[pair][i]);
      }
    }
    for (int64_t pair = 0; pair < kRows / 2; ++pair) {
      dots[pair * 2] = vaddq_s32(vuzp1q_s32(low[pair], high[pair]), offsets.of(pair * 2));
      dots[pair * 2 + 1] = vaddq_s32(vuzp2q_s32(low[pair], high[pair]), offsets.of(pair * 2 + 1));
    }
  }
  if constexpr (kRows % 2 != 0) {
    int32x4_t sum = offsets.of(kRows - 1);
    for (int64_t i = 0; i < 2; ++i) {
      sum = vusdotq_laneq_s32(sum, w.quad[i * 4], x.last[i], 0);
      sum = vusdotq_laneq_s32(sum, w.quad[i * 4 + 1], x.last[i], 1);
      sum = vusdotq_laneq_s32(sum, w.quad[i * 4 + 2], x.last[i], 2);
      sum = vusdotq_laneq_s32(sum, w.quad[i * 4 + 3], x.last[i], 3);
    }
    dots[kRows - 1] = sum;
  }
}
