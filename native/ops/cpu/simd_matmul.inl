// Matrix product with row-major f32 weights, with Vec (simd_kernels.inl).
//
// Every y[row][out] is one chain of operations: lane l sums the products of the elements i with i % kLanes ==
// l in ascending order (the last, partial vector included), then a fixed tree adds the lanes. The size of a
// tile only decides how many chains run at the same time, so a row has the same bits alone and among others.

constexpr int64_t kTileOuts = 4;
// Bytes of activations that are processed together, so that they are read again before they leave the L2
// cache.
constexpr int64_t kF32RowBlockBytes = 384 * 1024;

// With kPrefetch it prefetches the weights of the next tile while it computes: a row often ends at a page
// boundary, where the hardware prefetcher stops.
template <int64_t kOuts, int64_t kRows, bool kPrefetch>
void matmul_tile(const float* w, const float* x, float* y, const MatmulRange& range) {
  Vec sum[kOuts][kRows];
  for (int64_t out = 0; out < kOuts; ++out)
    for (int64_t row = 0; row < kRows; ++row) sum[out][row] = Vec::zero();
  int64_t i = 0;
  for (; i + Vec::kLanes <= range.in; i += Vec::kLanes) {
    Vec activation[kRows];
    for (int64_t row = 0; row < kRows; ++row) activation[row] = Vec::load(x + row * range.in + i);
    for (int64_t out = 0; out < kOuts; ++out) {
      if constexpr (kPrefetch) prefetch_line(w + (kOuts + out) * range.in + i);
      const Vec weight = Vec::load(w + out * range.in + i);
      for (int64_t row = 0; row < kRows; ++row)
        sum[out][row] = Vec::fma(weight, activation[row], sum[out][row]);
    }
  }
  if (i < range.in) {
    const int64_t rest = range.in - i;
    for (int64_t out = 0; out < kOuts; ++out) {
      const Vec weight = Vec::load(w + out * range.in + i, rest);
      for (int64_t row = 0; row < kRows; ++row)
        sum[out][row] = Vec::fma(weight, Vec::load(x + row * range.in + i, rest), sum[out][row]);
    }
  }
  for (int64_t row = 0; row < kRows; ++row) {
    if constexpr (kOuts == kTileOuts) {
      store_quad(Vec::lane_sums(sum[0][row], sum[1][row], sum[2][row], sum[3][row]),
                 y + row * range.y_stride);
    } else {
      static_assert(kOuts == 1);
      y[row * range.y_stride] = lane_sum(sum[0][row]);
    }
  }
}

// Calls the tile that is compiled for `rows` rows, at most kRows.
template <int64_t kOuts, int64_t kRows, bool kPrefetch>
void matmul_rows(int64_t rows, const float* w, const float* x, float* y, const MatmulRange& range) {
  if constexpr (kRows > 0) {
    if (rows == kRows)
      matmul_tile<kOuts, kRows, kPrefetch>(w, x, y, range);
    else
      matmul_rows<kOuts, kRows - 1, kPrefetch>(rows, w, x, y, range);
  }
}

template <int64_t kOuts>
void matmul_outs(const float* w, const float* x, float* y, int64_t rows, const MatmulRange& range) {
  int64_t row = rows < Vec::kTileRows ? rows : Vec::kTileRows;
  matmul_rows<kOuts, Vec::kTileRows, true>(row, w, x, y, range);
  for (; row + Vec::kTileRows <= rows; row += Vec::kTileRows)
    matmul_tile<kOuts, Vec::kTileRows, false>(w, x + row * range.in, y + row * range.y_stride, range);
  matmul_rows<kOuts, Vec::kTileRows, false>(rows - row, w, x + row * range.in, y + row * range.y_stride,
                                            range);
}

void matmul_f32(const float* w, const float* x, float* y, const MatmulRange& range) {
  const int64_t fitting = kF32RowBlockBytes / (range.in * static_cast<int64_t>(sizeof(float)));
  const int64_t block = fitting < Vec::kTileRows ? Vec::kTileRows : fitting / Vec::kTileRows * Vec::kTileRows;
  for (int64_t first = 0; first < range.rows; first += block) {
    const int64_t rows = range.rows - first < block ? range.rows - first : block;
    const float* const block_x = x + first * range.in;
    float* const block_y = y + first * range.y_stride;
    int64_t out = range.out_begin;
    for (; out + kTileOuts <= range.out_end; out += kTileOuts)
      matmul_outs<kTileOuts>(w + out * range.in, block_x, block_y + out, rows, range);
    for (; out < range.out_end; ++out)
      matmul_outs<1>(w + out * range.in, block_x, block_y + out, rows, range);
  }
}
