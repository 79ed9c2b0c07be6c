// What the kernels over Vec (simd_kernels.inl) need beside it: single floats, the four sums of
// Vec::lane_sums(), prefetching. Intrinsics, because inline functions of the standard library may not be
// used.

inline void prefetch_line(const void* p) {
  __builtin_prefetch(p);
}

#if defined(__x86_64__)
inline float first_of_quad(__m128 quad) {
  return _mm_cvtss_f32(quad);
}
inline void store_quad(__m128 quad, float* p) {
  _mm_storeu_ps(p, quad);
}
inline float square_root(float x) {
  return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
}
inline int32_t round_to_int(float x) {
  return _mm_cvtss_si32(_mm_set_ss(x));
}
#elif defined(__aarch64__)
inline float first_of_quad(float32x4_t quad) {
  return vgetq_lane_f32(quad, 0);
}
inline void store_quad(float32x4_t quad, float* p) {
  vst1q_f32(p, quad);
}
inline float square_root(float x) {
  return vget_lane_f32(vsqrt_f32(vdup_n_f32(x)), 0);
}
inline int32_t round_to_int(float x) {
  return vcvtns_s32_f32(x);
}
#endif
