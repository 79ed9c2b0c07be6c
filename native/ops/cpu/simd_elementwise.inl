// Norm, activation and softmax with Vec (simd_kernels.inl). A partial vector at the end goes through the same
// operations as a full one.

// Calls body(i, lanes) for every vector of [0, count). Only the last may have lanes < kLanes.
template <class Body>
inline void for_each_vector(int64_t count, Body body) {
  int64_t i = 0;
  for (; i + Vec::kLanes <= count; i += Vec::kLanes) body(i, Vec::kLanes);
  if (i < count) body(i, count - i);
}

inline Vec load_lanes(const float* p, int64_t lanes) {
  return lanes == Vec::kLanes ? Vec::load(p) : Vec::load(p, lanes);
}

inline void store_lanes(Vec x, float* p, int64_t lanes) {
  if (lanes == Vec::kLanes)
    x.store(p);
  else
    x.store(p, lanes);
}

inline float lane_sum(Vec x) {
  return first_of_quad(Vec::lane_sums(x, x, x, x));
}

// e^x to about 1 ulp. Returns 0 below the smallest normal result, about the largest f32 above the range, and
// NaN for NaN. The range reduction by ln 2 in two parts (Cody and Waite) and the polynomial are those of
// Cephes expf.
inline Vec exp(Vec x) {
  constexpr float kLowest = -87.33654f, kHighest = 88.02f;
  const Vec clamped = Vec::max(Vec::broadcast(kLowest), Vec::min(Vec::broadcast(kHighest), x));
  const Vec n = Vec::round(clamped * Vec::broadcast(1.44269504088896341f));
  Vec r = Vec::fma(n, Vec::broadcast(-0.693359375f), clamped);
  r = Vec::fma(n, Vec::broadcast(2.12194440e-4f), r);
  Vec p = Vec::broadcast(1.9875691500e-4f);
  p = Vec::fma(p, r, Vec::broadcast(1.3981999507e-3f));
  p = Vec::fma(p, r, Vec::broadcast(8.3334519073e-3f));
  p = Vec::fma(p, r, Vec::broadcast(4.1665795894e-2f));
  p = Vec::fma(p, r, Vec::broadcast(1.6666665459e-1f));
  p = Vec::fma(p, r, Vec::broadcast(5.0000001201e-1f));
  p = Vec::fma(p, r * r, r + Vec::broadcast(1.0f));
  return Vec::zero_below(p * Vec::power_of_two(n), x, kLowest);
}

void add(float* x, const float* y, int64_t count) {
  for_each_vector(count, [&](int64_t i, int64_t lanes) {
    store_lanes(load_lanes(x + i, lanes) + load_lanes(y + i, lanes), x + i, lanes);
  });
}

void rms_norm(const float* x, const float* weight, float eps, int64_t width, float* out) {
  Vec squares = Vec::zero();
  for_each_vector(width, [&](int64_t i, int64_t lanes) {
    const Vec value = load_lanes(x + i, lanes);
    squares = Vec::fma(value, value, squares);
  });
  const float mean = lane_sum(squares) / static_cast<float>(width) + eps;
  const Vec scale = Vec::broadcast(1.0f / square_root(mean));
  for_each_vector(width, [&](int64_t i, int64_t lanes) {
    store_lanes(load_lanes(x + i, lanes) * scale * load_lanes(weight + i, lanes), out + i, lanes);
  });
}

void swiglu(float* gate, const float* up, int64_t count) {
  for_each_vector(count, [&](int64_t i, int64_t lanes) {
    const Vec x = load_lanes(gate + i, lanes);
    const Vec silu = x / (Vec::broadcast(1.0f) + exp(Vec::zero() - x));
    store_lanes(silu * load_lanes(up + i, lanes), gate + i, lanes);
  });
}

void rotate(float* head, const float* cos, const float* sin, int64_t half) {
  for_each_vector(half, [&](int64_t i, int64_t lanes) {
    const Vec a = load_lanes(head + i, lanes), b = load_lanes(head + half + i, lanes);
    const Vec c = load_lanes(cos + i, lanes), s = load_lanes(sin + i, lanes);
    store_lanes(a * c - b * s, head + i, lanes);
    store_lanes(b * c + a * s, head + half + i, lanes);
  });
}

// Lane l sums the positions p with p % kLanes == l, so that a row's sum depends only on its own length.
float softmax(float* scores, int64_t count) {
  for (int64_t i = count; i % kBlockTokens != 0; ++i) scores[i] = -__builtin_inff();
  Vec max = Vec::broadcast(-__builtin_inff());
  for (int64_t i = 0; i < count; i += Vec::kLanes) max = Vec::max(max, Vec::load(scores + i));
  const Vec greatest = Vec::broadcast(Vec::reduce_max(max));
  Vec sum = Vec::zero();
  for (int64_t i = 0; i < count; i += Vec::kLanes) {
    const Vec p = exp(Vec::load(scores + i) - greatest);
    p.store(scores + i);
    sum = sum + p;
  }
  return lane_sum(sum);
}
