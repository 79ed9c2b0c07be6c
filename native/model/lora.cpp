#include "model/lora.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#include "common/convert.h"
#include "common/in_parallel.h"

namespace apar {
namespace {

// Rows that share the loads of A; their sums of kTile outputs stay in vector registers.
constexpr int64_t kRowsPerTask = 8;
constexpr int64_t kTile = 32;
// Tasks are dealt out to this many shares, each with a buffer of its own.
constexpr int64_t kShares = 16;
// Multiplications, about 2 ms of one thread: for less, starting others takes longer on a busy machine.
constexpr int64_t kWorthThreads = int64_t{1} << 24;

void widen(const Matrix& w, float* values) {
  convert(static_cast<const std::byte*>(w.data), w.dtype, w.rows * w.cols,
          reinterpret_cast<std::byte*>(values), DType::f32);
}

std::vector<float> widened(const Matrix& w) {
  std::vector<float> values(static_cast<size_t>(w.rows * w.cols));
  widen(w, values.data());
  return values;
}

std::vector<float> transposed(const std::vector<float>& values, int64_t rows, int64_t cols) {
  std::vector<float> turned(values.size());
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t col = 0; col < cols; ++col)
      turned[static_cast<size_t>(col * rows + row)] = values[static_cast<size_t>(row * cols + col)];
  return turned;
}

// left [rows, rank] · right [rank, cols], in f32.
struct Factors {
  std::vector<float> left, right;
  int64_t rank = 0;
};

Factors factors_of(const MatrixUpdate& update) {
  const Matrix &a = update.a, &b = update.b;
  if (a.rows == 0) return {};
  if (!update.transposed) return {widened(b), widened(a), a.rows};
  return {transposed(widened(a), a.rows, a.cols), transposed(widened(b), b.rows, b.cols), a.rows};
}

// Adds scale * (left · right) to `values` [cols], a row or a part of one. The sum over the rank is a chain in
// the order of the rank.
template <class Width>
void add_product(const float* left, const float* right, int64_t rank, int64_t stride, float scale,
                 float* values, Width width) {
  float sums[kTile] = {};
  for (int64_t k = 0; k < rank; ++k)
    for (int64_t i = 0; i < width; ++i) sums[i] += left[k] * right[k * stride + i];
  for (int64_t i = 0; i < width; ++i) values[i] += scale * sums[i];
}

void add_low_rank(const Factors& factors, float scale, int64_t first, int64_t count, int64_t cols,
                  float* values) {
  for (int64_t col = 0; col < cols; col += kTile)
    for (int64_t row = 0; row < count; ++row) {
      const float* const left = factors.left.data() + (first + row) * factors.rank;
      const float* const right = factors.right.data() + col;
      float* const into = values + row * cols + col;
      // A width that the compiler knows: it then keeps the sums in registers.
      if (cols - col >= kTile)
        add_product(left, right, factors.rank, cols, scale, into, std::integral_constant<int64_t, kTile>{});
      else
        add_product(left, right, factors.rank, cols, scale, into, cols - col);
    }
}

}  // namespace

void merge_update(const Matrix& base, const MatrixUpdate& update, std::byte* target, DType dtype,
                  int64_t rows) {
  const int64_t cols = base.cols;
  const Factors factors = factors_of(update);
  const auto row_bytes = stored_bytes(dtype, cols);
  const int64_t kept = std::min(base.rows, rows);
  const int64_t shares = kept * cols * std::max(factors.rank, int64_t{1}) < kWorthThreads ? 1 : kShares;
  std::vector<float> buffers(static_cast<size_t>(shares * kRowsPerTask * cols));
  in_parallel(static_cast<size_t>(shares), [&](size_t share) {
    float* const values = buffers.data() + static_cast<int64_t>(share) * kRowsPerTask * cols;
    for (int64_t first = static_cast<int64_t>(share) * kRowsPerTask; first < kept;
         first += shares * kRowsPerTask) {
      const int64_t count = std::min(kRowsPerTask, kept - first);
      widen(row_slice(base, first, count), values);
      if (factors.rank > 0) add_low_rank(factors, update.scale, first, count, cols, values);
      convert(reinterpret_cast<const std::byte*>(values), DType::f32, count * cols,
              target + first * row_bytes, dtype);
    }
  });
  for (size_t i = 0; i < update.rows_replaced.size(); ++i) {
    const Matrix row = row_slice(update.new_rows, static_cast<int64_t>(i), 1);
    convert(static_cast<const std::byte*>(row.data), row.dtype, cols,
            target + update.rows_replaced[i] * row_bytes, dtype);
  }
}

}  // namespace apar
