#include "ops/cpu/cpu_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "ops/convert.h"
#include "ops/float16.h"

namespace apar::cpu {
namespace {

// Query vectors (rows x heads of a group) that share one pass over the keys; their scores stay in the L2
// cache up to contexts of some thousand tokens.
constexpr int32_t kTileQueries = 32;
// Work that is not worth waking a thread for, in touched floats.
constexpr int64_t kSerialFloats = 16 * 1024;
// Weights of one piece of a matmul, in elements: large against the cost of taking an index, small against a
// layer.
constexpr int64_t kPieceElements = 32 * 1024;
constexpr int64_t kPieceAlign =
    16;  // outputs; keeps the kernels' tiles whole and writes of two threads apart

int64_t outputs_per_piece(const Linear& w) {
  const int64_t outputs = kPieceElements / std::max<int64_t>(w.cols, 1) / kPieceAlign * kPieceAlign;
  return std::max(outputs, kPieceAlign);
}

int64_t pieces(const Linear& w) {
  return (w.rows + outputs_per_piece(w) - 1) / outputs_per_piece(w);
}

}  // namespace

CpuOps::CpuOps(const OpsConfig& config, Isa isa, int32_t threads)
    : config_(config), isa_(isa), kernels_(kernels(isa)), pool_(threads), kv_(config) {
  if (config.kv_dtype == DType::f16) throw Error(ErrorCode::invalid_config, "the KV pool is f32 or bf16");
  const int32_t group = config.num_heads / config.num_kv_heads;
  rows_per_tile_ = std::max(1, kTileQueries / group);
  // Whole blocks are written: the last may begin at the last position.
  score_stride_ = int64_t{config.max_context} + kBlockTokens;
  const uint64_t queries =
      checked_size({static_cast<uint64_t>(rows_per_tile_), static_cast<uint64_t>(group)});
  for (int32_t thread = 0; thread < threads; ++thread)
    scratch_.push_back({allocate(checked_size({queries, static_cast<uint64_t>(score_stride_)})),
                        allocate(checked_size({queries, static_cast<uint64_t>(config.head_dim)})),
                        allocate(checked_size({queries, static_cast<uint64_t>(kv_.stride())}))});
  fill_rope_table();
}

std::string CpuOps::device() const {
  return std::string("cpu ") + to_string(isa_) + " x" + std::to_string(pool_.threads());
}

float* CpuOps::allocate(size_t count) {
  owned_.push_back(allocate_aligned(checked_size({count, sizeof(float)}), "activations"));
  return reinterpret_cast<float*>(owned_.back().get());
}

Linear CpuOps::place_linear(const Matrix& host, WeightFormat format) {
  const DType dtype = format == WeightFormat::f32 ? DType::f32 : DType::bf16;
  if (format != WeightFormat::f32 && format != WeightFormat::bf16)
    throw Error(ErrorCode::unavailable, std::string(to_string(format)) + ": not on this device");
  if (host.dtype == dtype) return {host.data, format, host.rows, host.cols};
  const int64_t count = host.rows * host.cols;
  const auto source = static_cast<const std::byte*>(host.data);
  owned_.push_back(
      allocate_aligned(checked_size({static_cast<uint64_t>(count), element_bytes(dtype)}), "weights"));
  convert(source, host.dtype, count, owned_.back().get(), dtype);
  return {owned_.back().get(), format, host.rows, host.cols};
}

void CpuOps::begin_step(const StepBatch& batch) {
  batch_ = &batch;
  plan_.build(batch, rows_per_tile_);
}

void CpuOps::embed(const Matrix& table, float* x) {
  for (const int32_t token : batch_->tokens) {
    if (table.dtype == DType::f32) {
      std::memcpy(x, static_cast<const float*>(table.data) + token * table.cols, table.cols * sizeof(float));
    } else {
      const auto* const row = static_cast<const uint16_t*>(table.data) + token * table.cols;
      std::transform(row, row + table.cols, x, bf16_to_f32);
    }
    x += table.cols;
  }
}

void CpuOps::rms_norm(float* x, const float* residual, const float* weight, int32_t rows, int32_t width,
                      float eps, float* out) {
  const auto row = [&](int64_t index, int32_t) {
    const int64_t offset = index * width;
    if (residual != nullptr) kernels_.add(x + offset, residual + offset, width);
    kernels_.rms_norm(x + offset, weight, eps, width, out + offset);
  };
  if (int64_t{rows} * width > kSerialFloats)
    pool_.parallel_for(rows, row);
  else
    for (int64_t index = 0; index < rows; ++index) row(index, 0);
}

void CpuOps::matmul(const float* x, int32_t rows, std::span<const Projection> projections) {
  int64_t count = 0;
  for (const Projection& projection : projections) count += pieces(projection.w);
  pool_.parallel_for(count, [&](int64_t index, int32_t) {
    const Projection* projection = projections.data();
    for (; index >= pieces(projection->w); ++projection) index -= pieces(projection->w);
    const Linear& w = projection->w;
    const int64_t begin = index * outputs_per_piece(w);
    const MatmulRange range = {rows, w.cols, begin, std::min(begin + outputs_per_piece(w), w.rows), w.rows};
    if (w.format == WeightFormat::f32)
      kernels_.matmul_f32(static_cast<const float*>(w.data), x, projection->y, range);
    else
      kernels_.matmul_bf16(static_cast<const uint16_t*>(w.data), x, projection->y, range);
  });
}

void CpuOps::swiglu(float* gate, const float* up, size_t count) {
  const int64_t total = static_cast<int64_t>(count), piece = kSerialFloats;
  pool_.parallel_for((total + piece - 1) / piece, [&](int64_t index, int32_t) {
    const int64_t begin = index * piece;
    kernels_.swiglu(gate + begin, up + begin, std::min(piece, total - begin));
  });
}

void CpuOps::gather_rows(const float* x, std::span<const int32_t> row_ids, int32_t width, float* out) {
  for (const int32_t row : row_ids) {
    std::memcpy(out, x + int64_t{row} * width, width * sizeof(float));
    out += width;
  }
}

void CpuOps::logits(const float* x, int32_t rows, const Linear& head, std::span<float> out) {
  const Projection projection = {head, out.data()};
  matmul(x, rows, {&projection, 1});
}

}  // namespace apar::cpu
