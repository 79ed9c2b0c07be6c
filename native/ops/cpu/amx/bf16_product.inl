// Products with bf16 weights on tiles, for any number of rows.
//
// TDPBF16PS defines the order of a sum: over the even and over the odd ones of 32 inputs separately, each a
// chain of FMA from zero, then even + odd, then added to the sum of the inputs before. Results of every step
// are rounded to nearest even; subnormals are zero. AVX-512 has no instruction with that order, so one row
// uses tiles as well.

constexpr int64_t kTileBytes = kTile * kPanelRow;  // of weights: two tiles, a panel wide
// Rows whose activations, or these bytes of them, stay in the L2 cache while one panel after the other is
// multiplied.
constexpr int64_t kBf16BlockRows = 256;
constexpr int64_t kBf16BlockBytes = 1024 * 1024;

struct Bf16Slice {
  const std::byte* w;  // weights of the first tile
  int64_t tiles;       // whole tiles of inputs
  int64_t tail;        // pairs after those, fewer than a tile
  int64_t x_stride;
  int64_t y_stride;
  int64_t outs;  // of this panel
  bool resumed;  // whether y has the sums of the inputs before
  const std::byte* prefetch;
  int64_t prefetch_step;  // bytes per tile of inputs
};

// Where the sums of a tile are loaded from and stored to: y itself, or a copy where y has no room for whole
// tiles.
struct SumTarget {
  alignas(64) float copy[kTile][kPanel];
  float* sums;
  int64_t stride;  // bytes
  bool direct;

  void open(const TileRows& rows, const Bf16Slice& s) {
    direct = rows.skip == 0 && s.outs == kPanel;
    sums = direct ? rows.y : copy[0];
    stride = (direct ? s.y_stride : kPanel) * 4;
    if (direct || !s.resumed) return;
    for (int64_t row = rows.skip; row < rows.count; ++row)
      for_each_panel_vector(s.outs, [&](int64_t i, int64_t lanes) {
        load_lanes(rows.y + row * s.y_stride + i * Vec::kLanes, lanes).store(copy[row] + i * Vec::kLanes);
      });
    finish_writes();
  }
  void close(const TileRows& rows, const Bf16Slice& s) const {
    if (direct) return;
    for (int64_t row = rows.skip; row < rows.count; ++row)
      for_each_panel_vector(s.outs, [&](int64_t i, int64_t lanes) {
        store_lanes(Vec::load(copy[row] + i * Vec::kLanes), rows.y + row * s.y_stride + i * Vec::kLanes,
                    lanes);
      });
  }
};

// The last inputs of a row, padded with zeros to a tile.
struct TailInputs {
  alignas(64) std::byte copy[kTile][64];

  void load(const TileRows& rows, const Bf16Slice& s) {
    const auto mask = static_cast<__mmask16>((1u << s.tail) - 1);
    for (int64_t row = 0; row < rows.count; ++row)
      _mm512_store_si512(copy[row], _mm512_maskz_loadu_epi32(mask, rows.x + row * s.x_stride + s.tiles * 64));
  }
};

struct TailWeights {
  alignas(64) std::byte copy[kTileBytes];

  void load(const Bf16Slice& s) {
    for (int64_t at = 0; at < kTileBytes; at += 64)
      _mm512_store_si512(copy + at, at < s.tail * kPanelRow
                                        ? _mm512_loadu_si512(s.w + s.tiles * kTileBytes + at)
                                        : _mm512_setzero_si512());
  }
};

// One panel with one or two tiles of rows.
template <bool kTwo>
void bf16_tiles(const Bf16Slice& s, const TileRows& first, const TileRows& second) {
  SumTarget a, b;
  a.open(first, s);
  if constexpr (kTwo) b.open(second, s);
  if (s.resumed) {
    _tile_loadd(0, a.sums, a.stride);
    _tile_loadd(1, a.sums + kTile, a.stride);
    if constexpr (kTwo) {
      _tile_loadd(2, b.sums, b.stride);
      _tile_loadd(3, b.sums + kTile, b.stride);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (kTwo) {
      _tile_zero(2);
      _tile_zero(3);
    }
  }
  const auto add = [](const std::byte* w, const std::byte* x, const std::byte* x2, int64_t x_stride) {
    _tile_loadd(6, w, kPanelRow);
    _tile_loadd(4, x, x_stride);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, w + 64, kPanelRow);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (kTwo) {
      _tile_loadd(5, x2, x_stride);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  };
  const std::byte* prefetch = s.prefetch;
  for (int64_t tile = 0; tile < s.tiles; ++tile, prefetch += s.prefetch_step) {
    prefetch_lines(prefetch, s.prefetch_step);
    add(s.w + tile * kTileBytes, first.x + tile * 64, kTwo ? second.x + tile * 64 : nullptr, s.x_stride);
  }
  if (s.tail > 0) {
    TailWeights weights;
    TailInputs x, x2;
    weights.load(s);
    x.load(first, s);
    if constexpr (kTwo) x2.load(second, s);
    finish_writes();
    add(weights.copy, x.copy[0], kTwo ? x2.copy[0] : nullptr, 64);
  }
  _tile_stored(0, a.sums, a.stride);
  _tile_stored(1, a.sums + kTile, a.stride);
  a.close(first, s);
  if constexpr (kTwo) {
    _tile_stored(2, b.sums, b.stride);
    _tile_stored(3, b.sums + kTile, b.stride);
    b.close(second, s);
  }
}

// One panel and the inputs [begin, begin + count) in tiles, and behind them, if `last`, those of the tail.
void bf16_panel(const std::byte* w, const std::byte* x, float* y, const PanelRange& range, int64_t panel,
                int64_t begin, int64_t count, bool last) {
  const int64_t all = pairs(range.in), x_stride = prepared_bytes(WeightFormat::bf16, range.in);
  const TileCover cover = {range.rows};
  const int64_t tiles = cover.tiles(), couples = (tiles + 1) / 2;
  const int64_t outs = range.outs - panel * kPanel < kPanel ? range.outs - panel * kPanel : kPanel;
  const std::byte* const slice = w + panel * all * kPanelRow + begin * kTileBytes;
  // The weights that come next are prefetched evenly while the rows of these are computed.
  const std::byte* const next = slice + (couples == 1 ? kPrefetchBytes : count * kTileBytes);
  const auto rows_of = [&](int64_t tile) {
    return cover.at(tile, x + begin * 64, x_stride, y + panel * kPanel, range.y_stride);
  };
  for (int64_t couple = 0; couple < couples; ++couple) {
    const Bf16Slice s = {slice,
                         count,
                         last ? all % kTile : 0,
                         x_stride,
                         range.y_stride,
                         outs,
                         begin > 0,
                         next + count * kTileBytes * couple / couples,
                         kTileBytes / couples};
    const TileRows first = rows_of(couple * 2);
    if (couple * 2 + 1 < tiles)
      bf16_tiles<true>(s, first, rows_of(couple * 2 + 1));
    else
      bf16_tiles<false>(s, first, first);
  }
}

// All panels of the range with one block of rows, for as many inputs at a time as the cache keeps.
void bf16_rows(const std::byte* w, const std::byte* x, float* y, const PanelRange& range) {
  const int64_t whole = pairs(range.in) / kTile;
  const int64_t fitting = kBf16BlockBytes / (range.rows * 64);
  for (int64_t begin = 0; begin == 0 || begin < whole; begin += fitting) {
    const int64_t count = begin + fitting < whole ? fitting : whole - begin;
    for (int64_t panel = range.begin; panel < range.end; ++panel)
      bf16_panel(w, x, y, range, panel, begin, count, begin + count == whole);
  }
}

// What kernel_table.inl names.
struct Bf16Product;

template <>
void multiply<Bf16Product>(const std::byte* w, const std::byte* x, float* y, const PanelRange& range) {
  use_tiles(TileCover{range.rows}.count());
  const int64_t blocks = (range.rows + kBf16BlockRows - 1) / kBf16BlockRows;
  const int64_t stride = prepared_bytes(WeightFormat::bf16, range.in);
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t row = range.rows * block / blocks;
    PanelRange part = range;
    part.rows = range.rows * (block + 1) / blocks - row;
    bf16_rows(w, x + row * stride, y + row * range.y_stride, part);
  }
}
