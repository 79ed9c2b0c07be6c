// Vec and Ints of the ARM files, which include it inside their anonymous namespaces.

struct Ints {
  uint32x4_t v;

  static Ints load(const std::byte* p) {
    return {vreinterpretq_u32_u8(vld1q_u8(reinterpret_cast<const uint8_t*>(p)))};
  }
  // Copies the 4 bytes at p to every lane.
  static Ints broadcast(const std::byte* p) {
    uint32_t bytes;
    __builtin_memcpy(&bytes, p, sizeof(bytes));
    return {vdupq_n_u32(bytes)};
  }
};

struct Vec {
  static constexpr int64_t kLanes = 4;
  // With 4 outputs: 20 sums, 5 activations and a weight in 32 registers.
  static constexpr int64_t kTileRows = 5;
  static constexpr int64_t kValueQueries = 8;  // with 2 vectors of a value

  float32x4_t v;

  static Vec zero() { return {vdupq_n_f32(0)}; }
  static Vec broadcast(float x) { return {vdupq_n_f32(x)}; }
  static Vec load(const float* p) { return {vld1q_f32(p)}; }
  static Vec load(const uint16_t* p) { return {vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16))}; }
  static Vec load_half(const std::byte* p) {
    return {vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(reinterpret_cast<const uint8_t*>(p))))};
  }
  static Vec broadcast_f32(const std::byte* f32) { return {vreinterpretq_f32_u32(Ints::broadcast(f32).v)}; }
  // Loads the first n lanes and sets the others to zero; reads nothing beyond them. 0 < n < kLanes.
  static Vec load(const float* p, int64_t n) {
    float32x4_t x = vld1q_lane_f32(p, vdupq_n_f32(0), 0);
    if (n > 1) x = vld1q_lane_f32(p + 1, x, 1);
    if (n > 2) x = vld1q_lane_f32(p + 2, x, 2);
    return {x};
  }
  void store(float* p) const { vst1q_f32(p, v); }
  void store(float* p, int64_t n) const {
    vst1q_lane_f32(p, v, 0);
    if (n > 1) vst1q_lane_f32(p + 1, v, 1);
    if (n > 2) vst1q_lane_f32(p + 2, v, 2);
  }

  // A NaN in either is returned.
  static Vec max(Vec bound, Vec x) { return {vmaxq_f32(bound.v, x.v)}; }
  static Vec min(Vec bound, Vec x) { return {vminq_f32(bound.v, x.v)}; }
  static Vec abs(Vec x) { return {vabsq_f32(x.v)}; }
  static Vec fma(Vec a, Vec b, Vec c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
  static Vec round(Vec x) { return {vrndnq_f32(x.v)}; }
  // 2^n for integers n in [-126, 127].
  static Vec power_of_two(Vec n) {
    const int32x4_t exponent = vaddq_s32(vcvtnq_s32_f32(n.v), vdupq_n_s32(127));
    return {vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23))};
  }
  // x, but zero in the lanes where test < bound.
  static Vec zero_below(Vec x, Vec test, float bound) {
    return {
        vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x.v), vcltq_f32(test.v, vdupq_n_f32(bound))))};
  }

  // The sum of the lanes of each vector. Every one of the four is added by the same tree.
  static float32x4_t lane_sums(Vec a, Vec b, Vec c, Vec d) {
    return vpaddq_f32(vpaddq_f32(a.v, b.v), vpaddq_f32(c.v, d.v));
  }
  static float reduce_max(Vec x) { return vmaxvq_f32(x.v); }
};

Vec operator+(Vec a, Vec b) {
  return {vaddq_f32(a.v, b.v)};
}
Vec operator-(Vec a, Vec b) {
  return {vsubq_f32(a.v, b.v)};
}
Vec operator*(Vec a, Vec b) {
  return {vmulq_f32(a.v, b.v)};
}
Vec operator/(Vec a, Vec b) {
  return {vdivq_f32(a.v, b.v)};
}

// Rounds as f32_to_bf16() does.
void store_bf16(Vec x, uint16_t* p) {
  const uint32x4_t bits = vreinterpretq_u32_f32(x.v), high = vshrq_n_u32(bits, 16);
  const uint32x4_t half = vaddq_u32(vandq_u32(high, vdupq_n_u32(1)), vdupq_n_u32(0x7fff));
  const uint32x4_t rounded = vshrq_n_u32(vaddq_u32(bits, half), 16);
  const uint32x4_t number = vceqq_f32(x.v, x.v);
  vst1_u16(p, vmovn_u32(vbslq_u32(number, rounded, vorrq_u32(high, vdupq_n_u32(0x40)))));
}
// x holds integers in [-128, 127].
void store_int8(Vec x, int8_t* p) {
  const int16x4_t words = vmovn_s32(vcvtnq_s32_f32(x.v));
  const int32_t bytes = vget_lane_s32(vreinterpret_s32_s8(vmovn_s16(vcombine_s16(words, words))), 0);
  __builtin_memcpy(p, &bytes, sizeof(bytes));
}

// The even and the odd one of every pair of bf16, widened exactly.
inline float32x4_t even_bf16(uint32x4_t pairs) {
  return vreinterpretq_f32_u32(vshlq_n_u32(pairs, 16));
}
inline float32x4_t odd_bf16(uint32x4_t pairs) {
  return vreinterpretq_f32_u32(vandq_u32(pairs, vdupq_n_u32(0xffff0000)));
}
