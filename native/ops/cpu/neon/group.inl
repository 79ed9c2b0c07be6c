// The operands of a product with int8 or int4 weights on ARM: one group of 32 inputs of 4 outputs.

// The 32 weights of each of 4 outputs as stored, with their offset: 4 inputs of every output in each of 8
// vectors.
struct GroupWeights {
  uint8x16_t quad[8];
};

template <bool kInt4>
inline GroupWeights load_group_weights(const std::byte* w) {
  GroupWeights weights;
  for (int64_t quad = 0; quad < (kInt4 ? 4 : 8); ++quad) {
    const uint8x16_t stored = vld1q_u8(reinterpret_cast<const uint8_t*>(w + quad * kPanel * 4));
    weights.quad[quad] = kInt4 ? vandq_u8(stored, vdupq_n_u8(15)) : stored;
    if constexpr (kInt4) weights.quad[quad + 4] = vshrq_n_u8(stored, 4);
  }
  return weights;
}

// int8 without the offset of 128.
inline int8x16_t centred(uint8x16_t stored) {
  return vreinterpretq_s8_u8(veorq_u8(stored, vdupq_n_u8(128)));
}

// What a row's prepared activations say for one group: the correction for the weights' offset.
struct GroupOffsets {
  const std::byte* first;
  int64_t stride;

  int32x4_t of(int64_t row) const { return vreinterpretq_s32_u32(Ints::broadcast(first + row * stride).v); }
};
