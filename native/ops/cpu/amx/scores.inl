// Attention scores of bf16 keys on tiles, in the order of bf16_product.inl. A block's keys lie as tiles have
// them: weights of 16 outputs, which are the tokens. Queries are rows.

constexpr int64_t kScoreRows = 8;  // as many as cpu_attention.cpp has at a time; fewer are padded
static_assert(kBlockTokens == kTile && kQueryPadding == kScoreRows);

// The last dimensions of some queries and a block, padded with zeros to a tile.
struct ScoreTail {
  alignas(64) std::byte q[kScoreRows][64];
  alignas(64) std::byte keys[kTile][64];

  ScoreTail(const std::byte* from_q, int64_t q_stride, const std::byte* from_keys, int64_t count) {
    const auto mask = static_cast<__mmask16>((1u << count) - 1);
    for (int64_t row = 0; row < kScoreRows; ++row)
      _mm512_store_si512(q[row], _mm512_maskz_loadu_epi32(mask, from_q + row * q_stride));
    for (int64_t pair = 0; pair < kTile; ++pair)
      _mm512_store_si512(keys[pair],
                         pair < count ? _mm512_loadu_si512(from_keys + pair * 64) : _mm512_setzero_si512());
    finish_writes();
  }
};

template <>
void scores<uint16_t>(const uint16_t* keys, const uint16_t* q, int64_t queries, int64_t head_dim, float* out,
                      int64_t score_stride) {
  use_tiles(kScoreRows);
  const int64_t whole = head_dim / 2 / kTile, tail = head_dim / 2 % kTile, stride = head_dim * 2;
  for (int64_t query = 0; query < queries; query += kScoreRows) {
    const auto* const rows = reinterpret_cast<const std::byte*>(q + query * head_dim);
    const auto* const block = reinterpret_cast<const std::byte*>(keys);
    float* const to = out + query * score_stride;
    _tile_zero(0);
    for (int64_t tile = 0; tile < whole; ++tile) {
      _tile_loadd(4, rows + tile * 64, stride);
      _tile_loadd(6, block + tile * kTile * 64, 64);
      _tile_dpbf16ps(0, 4, 6);
    }
    if (tail > 0) {
      const ScoreTail padded(rows + whole * 64, stride, block + whole * kTile * 64, tail);
      _tile_loadd(4, padded.q, 64);
      _tile_loadd(6, padded.keys, 64);
      _tile_dpbf16ps(0, 4, 6);
    }
    if (queries - query >= kScoreRows) {
      _tile_stored(0, to, score_stride * 4);
      continue;
    }
    alignas(64) float all[kScoreRows][kTile];
    _tile_stored(0, all, 64);
    for (int64_t row = 0; row < queries - query; ++row) Vec::load(all[row]).store(to + row * score_stride);
  }
}
