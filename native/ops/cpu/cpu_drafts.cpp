// What CpuOps does for draft heads and for the tokens that a verified draft leaves behind.
#include <algorithm>
#include <cmath>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/packed.h"
#include "ops/cpu/top_tokens.h"

namespace apar::cpu {

void CpuOps::add(const float* x, const float* y, int32_t rows, int32_t width, float* out) {
  for_each_row(rows, width, [&](int64_t row, int32_t) {
    for (int64_t i = row * width; i < (row + 1) * width; ++i) out[i] = x[i] + y[i];
  });
}

void CpuOps::add_silu(const float* x, const float* y, int32_t rows, int32_t width, float* out,
                      int32_t first_row) {
  float* const to = out + int64_t{first_row} * width;
  for_each_row(rows, width, [&](int64_t row, int32_t) {
    for (int64_t i = row * width; i < (row + 1) * width; ++i) to[i] = x[i] + y[i] / (1.0f + std::exp(-y[i]));
  });
}

void CpuOps::top_tokens(const float* x, int32_t rows, std::span<const Linear> heads, int32_t vocab,
                        int32_t top_k, std::span<TokenLogit> top, std::span<float> log_sums) {
  // Panels of outputs follow one another, so a product with the first ones is one with a smaller matrix.
  const int64_t width = std::min(heads.front().rows, round_up(vocab, kPanel)), inputs = heads.front().cols;
  for (size_t first = 0; first < heads.size();) {
    size_t end = first + 1;
    while (end < heads.size() && heads[end].data == heads[first].data) ++end;
    const int64_t row = static_cast<int64_t>(first) * rows;
    const Linear used = {heads[first].data, heads[first].format, width, inputs};
    const Projection projection = {used, draft_logits_ + row * width};
    if (width > 0) matmul(x + row * inputs, static_cast<int32_t>(end - first) * rows, {&projection, 1});
    first = end;
  }
  for_each_row(static_cast<int64_t>(log_sums.size()), width, [&, stride = width](int64_t row, int32_t) {
    log_sums[row] =
        cpu::top_tokens(kernels_, draft_logits_ + row * stride, vocab,
                        top.subspan(static_cast<size_t>(row * top_k), static_cast<size_t>(top_k)));
  });
}

void CpuOps::copy_slots(std::span<const SlotCopy> copies) {
  const int64_t heads = config_.num_kv_heads;
  const int64_t floats = int64_t{2} * config_.head_dim * static_cast<int64_t>(copies.size());
  for_each_row(config_.num_layers * heads, floats, [&](int64_t index, int32_t) {
    for (const SlotCopy& copy : copies)
      kv_.copy(static_cast<int32_t>(index / heads), static_cast<int32_t>(index % heads), copy);
  });
}

}  // namespace apar::cpu
