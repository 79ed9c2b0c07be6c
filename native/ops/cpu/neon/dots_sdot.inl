// Dot products of bytes with FEAT_DotProd. SDOT takes signed bytes, so int8 weights lose their offset first.

constexpr int64_t kIntRows = 4;

template <int64_t kRows>
struct GroupInputs {
  int8x16_t half[kRows][2];

  static GroupInputs load(const std::byte* x, int64_t stride) {
    GroupInputs inputs;
    for (int64_t row = 0; row < kRows; ++row)
      for (int64_t i = 0; i < 2; ++i)
        inputs.half[row][i] = vld1q_s8(reinterpret_cast<const int8_t*>(x + row * stride + i * 16));
    return inputs;
  }
};

template <bool kInt4, int64_t kRows>
inline void group_dots(const GroupWeights& w, const GroupInputs<kRows>& x, GroupOffsets offsets,
                       int32x4_t (&dots)[kRows]) {
  int8x16_t weights[8];
  for (int64_t quad = 0; quad < 8; ++quad)
    weights[quad] = kInt4 ? vreinterpretq_s8_u8(w.quad[quad]) : centred(w.quad[quad]);
  for (int64_t row = 0; row < kRows; ++row) {
    int32x4_t sum = kInt4 ? offsets.of(row) : vdupq_n_s32(0);
    for (int64_t i = 0; i < 2; ++i) {
      sum = vdotq_laneq_s32(sum, weights[i * 4], x.half[row][i], 0);
      sum = vdotq_laneq_s32(sum, weights[i * 4 + 1], x.half[row][i], 1);
      sum = vdotq_laneq_s32(sum, weights[i * 4 + 2], x.half[row][i], 2);
      sum = vdotq_laneq_s32(sum, weights[i * 4 + 3], x.half[row][i], 3);
    }
    dots[row] = sum;
  }
}
