#pragma once

#include <memory>
#include <vector>

#include "ops/cpu/attention_plan.h"
#include "ops/cpu/cpu_features.h"
#include "ops/cpu/cpu_memory.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/kv_pool.h"
#include "ops/cpu/memory.h"
#include "ops/cpu/thread_pool.h"
#include "ops/ops.h"

namespace apar::cpu {

// Ops on the host. This class splits the work over threads; the Kernels of one instruction set compute it.
class CpuOps final : public Ops {
 public:
  // threads in [1, 256]. Throws Error{unavailable} for an unsupported isa or kv_format, Error{out_of_memory}.
  CpuOps(const OpsConfig& config, Isa isa, int32_t threads);

  std::string device() const override;
  float* allocate(size_t count, Axis /*axis*/) override { return floats(count); }
  Matrix place(const Matrix& host, Axis /*axis*/) override { return host; }
  Linear place_linear(const Matrix& host, WeightFormat format, LinearAxes axes) override;
  std::string packed_layout() const override { return "cpu1"; }
  size_t packed_bytes(WeightFormat format, int64_t rows, int64_t cols) const override;
  void begin_step(const StepBatch& batch) override;
  void embed(const Matrix& table, float* x) override;
  void rms_norm(float* x, const float* residual, const float* weight, int32_t rows, int32_t width, float eps,
                float* out) override;
  void matmul(const float* x, int32_t rows, std::span<const Projection> projections) override;
  void rope_and_store(int32_t layer, float* q, float* k, const float* v,
                      const HeadTransform& transform) override;
  void attention(int32_t layer, const float* q, float* out) override;
  void swiglu(float* gate, const float* up, size_t count) override;
  void gather_rows(const float* x, std::span<const int32_t> row_ids, int32_t width, float* out) override;
  void logits(const float* x, int32_t rows, const Linear& head, std::span<float> out) override;
  void pick_rows(const float* x, std::span<const int32_t> row_ids, int32_t width, float* out) override {
    gather_rows(x, row_ids, width, out);
  }
  void pick_embeddings(const Matrix& table, std::span<const int32_t> tokens, float* out) override;
  void add(const float* x, const float* y, int32_t rows, int32_t width, float* out) override;
  void add_silu(const float* x, const float* y, int32_t rows, int32_t width, float* out,
                int32_t first_row) override;
  void top_tokens(const float* x, int32_t rows, std::span<const Linear> heads, int32_t vocab, int32_t top_k,
                  std::span<TokenLogit> top, std::span<float> log_sums) override;
  void copy_slots(std::span<const SlotCopy> copies) override;

 private:
  // One thread's buffers for a tile: scores [queries][score_stride], queries [queries][head_dim], sums
  // [queries][value_stride].
  struct Scratch {
    float* scores;
    float* queries;
    float* sums;
    uint16_t* rounded;  // the queries in bf16
  };

  // Up to this many floats of work run on the caller's thread: waking another one would take longer.
  static constexpr int64_t kSerialFloats = 16 * 1024;

  // Calls body(row, thread) for every row. `width`: floats of work per row.
  template <class Body>
  void for_each_row(int64_t rows, int64_t width, Body body) {
    if (rows * width > kSerialFloats) return pool_.parallel_for(rows, body);
    for (int64_t row = 0; row < rows; ++row) body(row, 0);
  }

  float* floats(size_t count);
  float* reserved_floats(size_t count);
  // Fills the table for at least the positions [0, positions).
  void extend_rope_table(int32_t positions);
  const std::byte* prepare(const float* x, int32_t rows, int64_t in, WeightFormat format);
  void matmul_f32(const float* x, int32_t rows, std::span<const Projection> projections);
  void add_bias(const Projection& projection, int32_t rows, int64_t begin, int64_t end);
  template <class Element>
  void rope_and_store_row(int32_t layer, int32_t row, float* q, float* k, const float* v,
                          const HeadTransform& transform, uint16_t* rounded);
  template <class Element>
  void attend_tile(int32_t layer, int32_t kv_head, const AttentionTile& tile, const float* q, float* out,
                   const Scratch& scratch);

  OpsConfig config_;
  StepSizes sizes_;
  Isa isa_;
  const Kernels& kernels_;
  ThreadPool pool_;
  KvPool kv_;
  std::vector<AlignedBytes> owned_;
  Arena weights_;
  AlignedBytes prepared_;          // activations of one matmul call
  float* draft_logits_ = nullptr;  // [draft_rows, vocab_size]
  float* rope_ = nullptr;          // [max_context][cos, sin][rope_frequencies]
  int32_t rope_positions_ = 0;     // filled; the rest is reserved
  std::vector<Scratch> scratch_;   // per thread
  const StepBatch* batch_ = nullptr;
  AttentionPlan plan_;
};

}  // namespace apar::cpu
