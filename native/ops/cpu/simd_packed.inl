// How the products with packed weights (simd_panel.inl) run over rows, panels and ranges of inputs, and how
// activations are prepared for them.

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
    offsets[group] = round_to_int(lane_sum(sum) * -static_cast<float>(kOffset));
  }
}
