// Products with packed weights (packed.h), with Vec and Ints (simd_kernels.inl).
//
// Every y[row][out] is one chain of operations over the inputs in ascending order, in the lane of its output:
// over pairs for bf16, over groups of 32 for int8 and int4. Its bits depend neither on the number of rows
// that run at the same time, nor on where the chain is stored in y and resumed.

constexpr int64_t kVecs = kPanel / Vec::kLanes;  // of one panel
// Bytes of prepared activations that stay in the L2 cache while one panel after the other is multiplied.
constexpr int64_t kRowBlockBytes = 512 * 1024;
// How many bytes ahead the weights are prefetched when they are read only once.
constexpr int64_t kPrefetchBytes = 4096;

template <int64_t kRows>
using Sums = Vec[kRows][kVecs];

// The operands of one product: consecutive steps of one panel, and some prepared rows. A step is a pair of
// inputs (bf16) or a group of 32 (int8, int4).
struct PanelSlice {
  const std::byte* w;         // weights of the first step
  const std::byte* x;         // the first row
  int64_t x_stride;           // bytes between rows
  int64_t first;              // number of the first step
  int64_t count;              // of steps
  int64_t steps;              // of a whole row
  const std::byte* prefetch;  // weights to prefetch, `prefetch_step` bytes of them in every step
  int64_t prefetch_step;
};

inline void prefetch_lines(const std::byte* from, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += 64)
    _mm_prefetch(reinterpret_cast<const char*>(from + at), _MM_HINT_T0);
}

struct Bf16Product {
  static constexpr WeightFormat kFormat = WeightFormat::bf16;
  static constexpr int64_t kTileRows = Vec::kBf16Rows;
  static constexpr int64_t kStepBytes = kPanel * 4;
  static constexpr int64_t kInputBytes = 4;  // prepared bytes of one row in one step
  static int64_t steps(int64_t in) { return pairs(in); }

  template <int64_t kRows>
  static void run(const PanelSlice& s, Sums<kRows>& sums) {
    const std::byte *w = s.w, *x = s.x + s.first * 4, *prefetch = s.prefetch;
    for (int64_t step = 0; step < s.count; ++step, w += kStepBytes, x += 4, prefetch += s.prefetch_step) {
      _mm_prefetch(reinterpret_cast<const char*>(prefetch), _MM_HINT_T0);
      // Few rows fit one tile, which reads the weights only once: it prefetches both cache lines of a step.
      if constexpr (kRows <= kTileRows / 2)
        _mm_prefetch(reinterpret_cast<const char*>(prefetch + 64), _MM_HINT_T0);
      Ints weight[kVecs];
      for (int64_t i = 0; i < kVecs; ++i) weight[i] = Ints::load(w + i * Vec::kLanes * 4);
      for (int64_t row = 0; row < kRows; ++row) {
        const Ints pair = Ints::broadcast(x + row * s.x_stride);
        for (int64_t i = 0; i < kVecs; ++i) sums[row][i] = dot_bf16(sums[row][i], weight[i], pair);
      }
    }
  }
};

template <WeightFormat kWeights>
struct IntProduct {
  static constexpr WeightFormat kFormat = kWeights;
  static constexpr bool kInt4 = kWeights == WeightFormat::int4;
  static constexpr int64_t kTileRows = Vec::kIntRows;
  static constexpr int64_t kStepBytes = kInt4 ? kInt4GroupBytes : kInt8GroupBytes;
  static constexpr int64_t kInputBytes = kGroup + 8;
  static int64_t steps(int64_t in) { return groups(in); }

  template <int64_t kRows>
  static void run(const PanelSlice& s, Sums<kRows>& sums) {
    const std::byte *w = s.w, *x = s.x + s.first * kGroup, *prefetch = s.prefetch;
    const std::byte *scale = s.x + s.steps * kGroup + s.first * 4, *offset = scale + s.steps * 4;
    for (int64_t step = 0; step < s.count; ++step) {
      prefetch_lines(prefetch, s.prefetch_step);
      Ints dots[kRows][kVecs];
      for (int64_t row = 0; row < kRows; ++row)
        for (int64_t i = 0; i < kVecs; ++i) dots[row][i] = Ints::broadcast(offset + row * s.x_stride);
      for (int64_t quad = 0; quad < (kInt4 ? kGroup / 8 : kGroup / 4); ++quad) {
        for (int64_t i = 0; i < kVecs; ++i) {
          const Ints weight = Ints::load(w + (quad * kVecs + i) * Vec::kLanes * 4);
          for (int64_t row = 0; row < kRows; ++row) {
            const std::byte* const inputs = x + row * s.x_stride + quad * 4;
            if constexpr (kInt4) {
              dots[row][i] = dot_u4s8(dots[row][i], low_nibbles(weight), Ints::broadcast(inputs));
              dots[row][i] =
                  dot_u4s8(dots[row][i], high_nibbles(weight), Ints::broadcast(inputs + kGroup / 2));
            } else {
              dots[row][i] = dot_u8s8(dots[row][i], weight, Ints::broadcast(inputs));
            }
          }
        }
      }
      const std::byte* const weight_scales = w + kStepBytes - kPanel * 2;
      for (int64_t i = 0; i < kVecs; ++i) {
        const Vec weight_scale = Vec::load_half(weight_scales + i * Vec::kLanes * 2);
        for (int64_t row = 0; row < kRows; ++row) {
          const Vec both = weight_scale * Vec::broadcast_f32(scale + row * s.x_stride);
          sums[row][i] = Vec::fma(to_floats(dots[row][i]), both, sums[row][i]);
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

// Calls body(vector index, lanes) for the vectors of a panel that has `outs` outputs.
template <class Body>
inline void for_each_panel_vector(int64_t outs, Body body) {
  for (int64_t i = 0; i < kVecs && i * Vec::kLanes < outs; ++i) {
    const int64_t rest = outs - i * Vec::kLanes;
    body(i, rest < Vec::kLanes ? rest : Vec::kLanes);
  }
}

template <class Product, int64_t kRows>
void packed_tile(const PanelSlice& s, float* y, int64_t y_stride, int64_t outs) {
  Sums<kRows> sums;
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t i = 0; i < kVecs; ++i) sums[row][i] = Vec::zero();
    if (s.first > 0)
      for_each_panel_vector(outs, [&](int64_t i, int64_t lanes) {
        sums[row][i] = load_lanes(y + row * y_stride + i * Vec::kLanes, lanes);
      });
  }
  Product::template run<kRows>(s, sums);
  for (int64_t row = 0; row < kRows; ++row)
    for_each_panel_vector(outs, [&](int64_t i, int64_t lanes) {
      store_lanes(sums[row][i], y + row * y_stride + i * Vec::kLanes, lanes);
    });
}

// Calls the tile that is compiled for `rows` rows, at most kRows.
template <class Product, int64_t kRows>
void packed_rows(int64_t rows, const PanelSlice& s, float* y, int64_t y_stride, int64_t outs) {
  if constexpr (kRows > 0) {
    if (rows == kRows)
      packed_tile<Product, kRows>(s, y, y_stride, outs);
    else
      packed_rows<Product, kRows - 1>(rows, s, y, y_stride, outs);
  }
}

template <class Product>
void multiply(const std::byte* w, const std::byte* x, float* y, const PanelRange& range) {
  const int64_t steps = Product::steps(range.in), stride = prepared_bytes(Product::kFormat, range.in);
  const int64_t tiles = (range.rows + Product::kTileRows - 1) / Product::kTileRows;
  const int64_t fitting = kRowBlockBytes / (range.rows * Product::kInputBytes);
  const int64_t block = fitting < 16 ? 16 : fitting;
  for (int64_t first = 0; first < steps; first += block) {
    const int64_t count = steps - first < block ? steps - first : block;
    for (int64_t panel = range.begin; panel < range.end; ++panel) {
      const std::byte* const slice = w + (panel * steps + first) * Product::kStepBytes;
      const int64_t outs = range.outs - panel * kPanel < kPanel ? range.outs - panel * kPanel : kPanel;
      // The weights of the next panel are prefetched evenly while the rows of this one are computed.
      const std::byte* const next = slice + (tiles == 1 ? kPrefetchBytes : steps * Product::kStepBytes);
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t row = range.rows * tile / tiles, end = range.rows * (tile + 1) / tiles;
        const PanelSlice s = {slice,
                              x + row * stride,
                              stride,
                              first,
                              count,
                              steps,
                              next + count * Product::kStepBytes * tile / tiles,
                              Product::kStepBytes / tiles};
        packed_rows<Product, Product::kTileRows>(end - row, s, y + row * range.y_stride + panel * kPanel,
                                                 range.y_stride, outs);
      }
    }
  }
}

// Rounds one row to bf16. An odd number of inputs is padded with a zero.
void prepare_bf16(const float* x, int64_t in, std::byte* prepared) {
  auto* const out = reinterpret_cast<uint16_t*>(prepared);
  for_each_vector(in, [&](int64_t i, int64_t lanes) {
    if (lanes == Vec::kLanes) {
      store_bf16(Vec::load(x + i), out + i);
    } else {
      uint16_t rounded[Vec::kLanes];
      store_bf16(Vec::load(x + i, lanes), rounded);
      for (int64_t lane = 0; lane < lanes; ++lane) out[i + lane] = rounded[lane];
    }
  });
  if (in % 2 != 0) out[in] = 0;
}

// Quantises groups of 32 to int8 with one scale each, so that the largest magnitude becomes 127. A NaN or an
// infinity makes the scale NaN and with it every output.
template <int32_t kOffset>
void prepare_int8(const float* x, int64_t in, std::byte* prepared) {
  constexpr int64_t kGroupVecs = kGroup / Vec::kLanes;
  const int64_t count = groups(in);
  auto* const quantised = reinterpret_cast<int8_t*>(prepared);
  auto* const scales = reinterpret_cast<float*>(prepared + count * kGroup);
  auto* const offsets = reinterpret_cast<int32_t*>(scales + count);
  for (int64_t group = 0; group < count; ++group) {
    float padded[kGroup];
    const float* source = x + group * kGroup;
    if ((group + 1) * kGroup > in) {
      for (int64_t i = 0; i < kGroup; ++i) padded[i] = group * kGroup + i < in ? source[i] : 0.0f;
      source = padded;
    }
    Vec value[kGroupVecs], most = Vec::zero(), poison = Vec::zero(), sum = Vec::zero();
    for (int64_t i = 0; i < kGroupVecs; ++i) {
      value[i] = Vec::load(source + i * Vec::kLanes);
      most = Vec::max(most, Vec::abs(value[i]));
      poison = Vec::fma(value[i], Vec::zero(), poison);
    }
    const float largest = Vec::reduce_max(most);
    const Vec inverse = Vec::broadcast(largest > 0 ? 127.0f / largest : 0.0f);
    for (int64_t i = 0; i < kGroupVecs; ++i) {
      const Vec whole = Vec::round(value[i] * inverse);
      store_int8(whole, quantised + group * kGroup + i * Vec::kLanes);
      sum = sum + whole;
    }
    scales[group] = largest / 127.0f + lane_sum(poison);
    offsets[group] = _mm_cvtss_si32(_mm_set_ss(lane_sum(sum) * -static_cast<float>(kOffset)));
  }
}
