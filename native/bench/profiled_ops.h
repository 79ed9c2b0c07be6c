#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "ops/ops.h"

namespace apar::bench {

// Forwards every operation to `ops` and adds its seconds to the sum of its kind.
class ProfiledOps final : public Ops {
 public:
  ProfiledOps(std::unique_ptr<Ops> ops, std::map<std::string, double>& seconds)
      : ops_(std::move(ops)), seconds_(seconds) {}

  std::string device() const override { return ops_->device(); }
  float* allocate(size_t count, Axis axis) override { return ops_->allocate(count, axis); }
  Matrix place(const Matrix& host, Axis axis) override { return ops_->place(host, axis); }
  Linear place_linear(const Matrix& host, WeightFormat format, LinearAxes axes) override {
    return ops_->place_linear(host, format, axes);
  }
  std::string packed_layout() const override { return ops_->packed_layout(); }
  size_t packed_bytes(WeightFormat format, int64_t rows, int64_t cols) const override {
    return ops_->packed_bytes(format, rows, cols);
  }
  void begin_step(const StepBatch& batch) override {
    timed("plan", [&] { ops_->begin_step(batch); });
  }
  void embed(const Matrix& table, float* x) override {
    timed("embed", [&] { ops_->embed(table, x); });
  }
  void rms_norm(float* x, const float* residual, const float* weight, int32_t rows, int32_t width, float eps,
                float* out) override {
    timed("norm", [&] { ops_->rms_norm(x, residual, weight, rows, width, eps, out); });
  }
  void matmul(const float* x, int32_t rows, std::span<const Projection> projections) override {
    timed("matmul", [&] { ops_->matmul(x, rows, projections); });
  }
  void rope_and_store(int32_t layer, float* q, float* k, const float* v,
                      const HeadTransform& transform) override {
    timed("rope", [&] { ops_->rope_and_store(layer, q, k, v, transform); });
  }
  void attention(int32_t layer, const float* q, float* out) override {
    timed("attention", [&] { ops_->attention(layer, q, out); });
  }
  void swiglu(float* gate, const float* up, size_t count) override {
    timed("swiglu", [&] { ops_->swiglu(gate, up, count); });
  }
  void gather_rows(const float* x, std::span<const int32_t> row_ids, int32_t width, float* out) override {
    ops_->gather_rows(x, row_ids, width, out);
  }
  void logits(const float* x, int32_t rows, const Linear& head, std::span<float> out) override {
    timed("logits", [&] { ops_->logits(x, rows, head, out); });
  }
  void pick_rows(const float* x, std::span<const int32_t> row_ids, int32_t width, float* out) override {
    ops_->pick_rows(x, row_ids, width, out);
  }
  void pick_embeddings(const Matrix& table, std::span<const int32_t> tokens, float* out) override {
    ops_->pick_embeddings(table, tokens, out);
  }
  void add(const float* x, const float* y, int32_t rows, int32_t width, float* out) override {
    ops_->add(x, y, rows, width, out);
  }
  void add_silu(const float* x, const float* y, int32_t rows, int32_t width, float* out,
                int32_t first_row) override {
    timed("draft heads", [&] { ops_->add_silu(x, y, rows, width, out, first_row); });
  }
  void top_tokens(const float* x, int32_t rows, std::span<const Linear> heads, int32_t vocab, int32_t top_k,
                  std::span<TokenLogit> top, std::span<float> log_sums) override {
    timed("draft heads", [&] { ops_->top_tokens(x, rows, heads, vocab, top_k, top, log_sums); });
  }
  void copy_slots(std::span<const SlotCopy> copies) override {
    timed("copy slots", [&] { ops_->copy_slots(copies); });
  }
  void end_step() override { ops_->end_step(); }
  bool draws_tokens() const override { return ops_->draws_tokens(); }
  void draw_tokens(const float* x, int32_t rows, const Linear& head, std::span<const TokenDraw> draws,
                   std::span<DrawnToken> drawn) override {
    timed("logits", [&] { ops_->draw_tokens(x, rows, head, draws, drawn); });
  }

 private:
  template <class Body>
  void timed(const char* name, Body body) {
    const auto start = std::chrono::steady_clock::now();
    body();
    seconds_[name] += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  std::unique_ptr<Ops> ops_;
  std::map<std::string, double>& seconds_;
};

}  // namespace apar::bench
