// A bf16 product may go through a panel in parts that leave room for the sums of several rows in the registers: a few vectors of outputs for a number of steps that stay in the L1 cache.

constexpr int64_t kPartSteps = 64;

struct PanelPart {
  const std::byte* w;  // the part's first vector in its first step
  const std::byte* x;
  const std::byte* prefetch;
  int64_t vec;    // number of the first vector
  int64_t count;  // of steps
};

// Calls body<kWidth>(part) for all parts of kWidth vectors.
template <int64_t kWidth, class Body>
inline void for_each_part(const PanelSlice& s, Body body) {
  constexpr int64_t kStep = kPanel * 4, kSteps = kWidth == kVecs ? INT64_MAX : kPartSteps;
  constexpr int64_t kVecBytes = Vec::kLanes * 4;
  for (int64_t begin = 0; begin < s.count;) {
    const int64_t count = s.count - begin < kSteps ? s.count - begin : kSteps;
    for (int64_t vec = 0; vec < kVecs; vec += kWidth) {
      const PanelPart part = {s.w + begin * kStep + vec * kVecBytes, s.x + (s.first + begin) * 4,
                              s.prefetch + begin * s.prefetch_step + vec * kVecBytes, vec, count};
      body.template operator()<kWidth>(part);
    }
    begin += count;
  }
}

// Prefetches the weights of one part of a step.
template <int64_t kWidth>
inline void prefetch_part(const std::byte* from) {
  prefetch_lines(from, kWidth * Vec::kLanes * 4);
}
