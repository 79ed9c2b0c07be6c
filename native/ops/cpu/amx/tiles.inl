// The shapes of the tile registers. The intrinsics take the numbers of registers as literals:
//   0 to 3  sums     [rows][16 outputs] f32 or int32; 1 and 3 have the second half of a panel
//   4, 5    inputs   [rows][inputs]
//   6, 7    weights  [inputs / unit][16 outputs][unit], as panels have them (packed.h); a unit is 4 bytes

constexpr int64_t kTile = 16;              // the most rows, and the outputs
constexpr int64_t kPanelRow = kPanel * 4;  // bytes from one unit of inputs to the next in a panel

struct alignas(64) TileShapes {
  uint8_t palette;
  uint8_t start_row;
  uint8_t reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
static_assert(sizeof(TileShapes) == 64);

// Makes the tiles of this thread fit `rows` rows, at most kTile, of `input_bytes`. Loading a configuration
// takes about 300 cycles, so it stays until a product needs another. Asking the processor which one is loaded
// takes 25 and holds even if other code of the process uses tiles, too.
inline void use_tiles(int64_t rows, int64_t input_bytes) {
  TileShapes wanted = {}, loaded;
  wanted.palette = 1;
  for (int tile = 0; tile < 8; ++tile) {
    const bool inputs = tile == 4 || tile == 5, weights = tile > 5;
    wanted.row_bytes[tile] = static_cast<uint16_t>(inputs ? input_bytes : 64);
    wanted.rows[tile] = static_cast<uint8_t>(weights ? input_bytes / 4 : rows);
  }
  _tile_storeconfig(&loaded);
  const __m512i difference = _mm512_xor_si512(_mm512_load_si512(&loaded), _mm512_load_si512(&wanted));
  if (_mm512_test_epi64_mask(difference, difference) != 0) _tile_loadconfig(&wanted);
}

// Tile loads do not tell GCC that they read memory: what was written before them must be there.
inline void finish_writes() {
  asm volatile("" ::: "memory");
}
