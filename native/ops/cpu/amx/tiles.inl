// The shapes of the tile registers, whose numbers the intrinsics take as literals:
//   0 to 3  sums     [rows][16 outputs] f32; 1 and 3 have the second half of a panel
//   4, 5    inputs   [rows][32] bf16
//   6, 7    weights  [16][16 outputs][2] bf16, as panels have them (packed.h)

constexpr int64_t kTile = 16;              // outputs, pairs of inputs, and the most rows
constexpr int64_t kPanelRow = kPanel * 4;  // bytes from one pair of inputs to the next in a panel

struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileShapes) == 64);

struct AllShapes {
  TileShapes of[kTile + 1];  // by the number of rows

  constexpr AllShapes() : of() {
    for (int64_t rows = 1; rows <= kTile; ++rows)
      for (int64_t tile = 0; tile < 8; ++tile) {
        of[rows].row_bytes[tile] = 64;
        of[rows].rows[tile] = static_cast<uint8_t>(tile < 6 ? rows : kTile);
      }
  }
};
constexpr AllShapes kShapes;

// Gives the tiles of this thread `rows` rows, at most kTile. Loading a configuration takes about 300 cycles,
// so it stays until a product needs another. Asking the processor which one is loaded takes 25, and is right
// even if other code of this thread uses tiles, too.
inline void use_tiles(int64_t rows) {
  TileShapes loaded;
  const TileShapes& wanted = kShapes.of[rows];
  _tile_storeconfig(&loaded);
  const __m512i difference = _mm512_xor_si512(_mm512_load_si512(&loaded), _mm512_load_si512(&wanted));
  if (_mm512_test_epi64_mask(difference, difference) != 0) _tile_loadconfig(&wanted);
}

// Tile loads do not tell GCC that they read memory: what was written before them must be there.
inline void finish_writes() {
  asm volatile("" ::: "memory");
}

// Up to kTile adjacent rows and their sums. The first `skip` rows are computed for nothing.
struct TileRows {
  const std::byte* x;
  float* y;
  int64_t count;
  int64_t skip;
};

// Cuts rows into tiles of one shape: the last of several overlaps the one before it.
struct TileCover {
  int64_t rows;

  int64_t tiles() const { return (rows + kTile - 1) / kTile; }
  int64_t count() const { return rows < kTile ? rows : kTile; }
  // x and y are those of the first row, strides are in their elements.
  TileRows at(int64_t tile, const std::byte* x, int64_t x_stride, float* y, int64_t y_stride) const {
    const int64_t regular = tile * kTile, row = regular < rows - count() ? regular : rows - count();
    return {x + row * x_stride, y + row * y_stride, count(), regular - row};
  }
};
