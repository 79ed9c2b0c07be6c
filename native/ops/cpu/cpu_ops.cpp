#include "ops/cpu/cpu_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/convert.h"
#include "common/float16.h"
#include "ops/cpu/packed.h"

namespace apar::cpu {
namespace {

// A matmul is cut into about this many pieces per thread, so that a thread which the system interrupts delays
// the others little. Pieces have at least kPieceBytes, so that the work of a piece exceeds the cost of
// handing it out.
constexpr int64_t kPiecesPerThread = 12;
constexpr int64_t kPieceBytes = 32 * 1024;  // of weights

// Cuts the layers of a matmul into pieces. A piece is a run of units (rows of w, or panels) of one layer.
class Pieces {
 public:
  Pieces(std::span<const Projection> projections, int64_t unit_outputs, int64_t unit_bytes, int32_t threads)
      : projections_(projections), unit_outputs_(unit_outputs) {
    int64_t units = 0;
    for (const Projection& projection : projections) units += units_of(projection);
    const int64_t even = units / (threads * kPiecesPerThread),
                  min = kPieceBytes / std::max<int64_t>(unit_bytes, 1);
    units_per_piece_ = std::max<int64_t>({even, min, 1});
  }

  int64_t count() const {
    int64_t total = 0;
    for (const Projection& projection : projections_) total += pieces_of(projection);
    return total;
  }

  struct Piece {
    const Projection& projection;
    int64_t begin, end;  // units
  };
  Piece operator[](int64_t index) const {
    const Projection* projection = projections_.data();
    for (; index >= pieces_of(*projection); ++projection) index -= pieces_of(*projection);
    const int64_t begin = index * units_per_piece_;
    return {*projection, begin, std::min(begin + units_per_piece_, units_of(*projection))};
  }

 private:
  int64_t units_of(const Projection& projection) const {
    return (projection.w.rows + unit_outputs_ - 1) / unit_outputs_;
  }
  int64_t pieces_of(const Projection& projection) const {
    return (units_of(projection) + units_per_piece_ - 1) / units_per_piece_;
  }

  std::span<const Projection> projections_;
  int64_t unit_outputs_, units_per_piece_;
};

}  // namespace

CpuOps::CpuOps(const OpsConfig& config, Isa isa, int32_t threads)
    : config_(config),
      sizes_(step_sizes(config)),
      isa_(isa),
      kernels_(kernels(isa)),
      pool_(threads),
      kv_(config),
      prepared_(allocate_aligned(sizes_.prepared_bytes, "activations")) {
  for (int32_t thread = 0; thread < threads; ++thread)
    scratch_.push_back({reserved_floats(sizes_.scores), floats(sizes_.rotated), floats(sizes_.sums),
                        reinterpret_cast<uint16_t*>(floats(sizes_.rotated))});
  rope_ = reserved_floats(sizes_.rope);
  if (sizes_.draft_logits > 0) draft_logits_ = reserved_floats(sizes_.draft_logits);
}

std::string CpuOps::device() const {
  return std::string("cpu ") + to_string(isa_) + " x" + std::to_string(pool_.threads());
}

float* CpuOps::floats(size_t count) {
  owned_.push_back(allocate_aligned(checked_size({count, sizeof(float)}), "activations"));
  return reinterpret_cast<float*>(owned_.back().get());
}

float* CpuOps::reserved_floats(size_t count) {
  owned_.push_back(reserve_zeroed(checked_size({count, sizeof(float)}), "memory for long contexts"));
  return reinterpret_cast<float*>(owned_.back().get());
}

size_t CpuOps::packed_bytes(WeightFormat format, int64_t rows, int64_t cols) const {
  return checked_size(
      {static_cast<uint64_t>(panels(rows)), static_cast<uint64_t>(panel_bytes(format, cols))});
}

Linear CpuOps::place_linear(const Matrix& host, WeightFormat format, LinearAxes /*axes*/) {
  if (is_for_cuda(format))
    throw Error(
        ErrorCode::unavailable,
        std::string(to_string(format)) + " weights are for CUDA devices; the CPU has f32, bf16, int8, int4");
  const Linear linear = {host.data, format, host.rows, host.cols};
  if (format != WeightFormat::f32) {
    const int64_t count = panels(host.rows), bytes = panel_bytes(format, host.cols);
    std::byte* const packed = weights_.allocate(packed_bytes(format, host.rows, host.cols), "weights");
    pool_.parallel_for(count, [&](int64_t panel, int32_t) {
      pack_panels(host, format, panel, panel + 1, packed + panel * bytes);
    });
    return {packed, format, host.rows, host.cols};
  }
  if (host.dtype == DType::f32) return linear;
  std::byte* const widened = weights_.allocate(
      checked_size({static_cast<uint64_t>(host.rows), static_cast<uint64_t>(host.cols), 4}), "weights");
  pool_.parallel_for(host.rows, [&](int64_t row, int32_t) {
    convert(static_cast<const std::byte*>(row_slice(host, row, 1).data), host.dtype, host.cols,
            widened + row * host.cols * 4, DType::f32);
  });
  return {widened, format, host.rows, host.cols};
}

void CpuOps::begin_step(const StepBatch& batch) {
  batch_ = &batch;
  if (!batch.positions.empty()) extend_rope_table(std::ranges::max(batch.positions) + 1);
  plan_.build(batch, sizes_.rows_per_tile);
}

void CpuOps::embed(const Matrix& table, float* x) {
  pick_embeddings(table, batch_->tokens, x);
}

void CpuOps::pick_embeddings(const Matrix& table, std::span<const int32_t> tokens, float* x) {
  for (const int32_t token : tokens) {
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
  for_each_row(rows, width, [&](int64_t index, int32_t) {
    const int64_t offset = index * width;
    if (residual != nullptr) kernels_.add(x + offset, residual + offset, width);
    kernels_.rms_norm(x + offset, weight, eps, width, out + offset);
  });
}

void CpuOps::matmul(const float* x, int32_t rows, std::span<const Projection> projections) {
  const auto [data, format, outs, in] = projections.front().w;
  if (format == WeightFormat::f32) return matmul_f32(x, rows, projections);
  const std::byte* const prepared = prepare(x, rows, in, format);
  const auto multiply = kernels_.packed(format).multiply;
  const Pieces pieces(projections, kPanel, panel_bytes(format, in), pool_.threads());
  pool_.parallel_for(pieces.count(), [&, inputs = in](int64_t index, int32_t) {
    const auto [projection, begin, end] = pieces[index];
    const Linear& w = projection.w;
    multiply(static_cast<const std::byte*>(w.data), prepared, projection.y,
             {rows, inputs, w.rows, begin, end, w.rows});
    add_bias(projection, rows, begin * kPanel, std::min(end * kPanel, w.rows));
  });
}

// To the outputs [begin, end) of every row.
void CpuOps::add_bias(const Projection& projection, int32_t rows, int64_t begin, int64_t end) {
  if (projection.bias == nullptr) return;
  for (int64_t row = 0; row < rows; ++row)
    kernels_.add(projection.y + row * projection.w.rows + begin, projection.bias + begin, end - begin);
}

void CpuOps::matmul_f32(const float* x, int32_t rows, std::span<const Projection> projections) {
  // Outputs of a unit: a multiple of the kernels' tiles, and a cache line of y, which two threads never
  // share.
  constexpr int64_t kUnit = 16;
  const int64_t in = projections.front().w.cols;
  const Pieces pieces(projections, kUnit, kUnit * in * 4, pool_.threads());
  pool_.parallel_for(pieces.count(), [&](int64_t index, int32_t) {
    const auto [projection, begin, end] = pieces[index];
    const Linear& w = projection.w;
    const int64_t first = begin * kUnit, last = std::min(end * kUnit, w.rows);
    kernels_.matmul_f32(static_cast<const float*>(w.data), x, projection.y, {rows, in, first, last, w.rows});
    add_bias(projection, rows, first, last);
  });
}

// Rounds or quantises the activations once for all outputs of all layers.
const std::byte* CpuOps::prepare(const float* x, int32_t rows, int64_t in, WeightFormat format) {
  const int64_t bytes = prepared_bytes(format, in);
  for_each_row(rows, in, [&, row = kernels_.packed(format).prepare](int64_t index, int32_t) {
    row(x + index * in, in, prepared_.get() + index * bytes);
  });
  return prepared_.get();
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
