#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "ops/cuda/attention/attention.h"
#include "ops/cuda/device/device.h"
#include "ops/cuda/device/pinned_array.h"
#include "ops/cuda/device/staging.h"
#include "ops/cuda/device/switches.h"
#include "ops/cuda/elementwise/elementwise.h"
#include "ops/cuda/gemm/cublaslt.h"
#include "ops/cuda/gemm/gemm.h"
#include "ops/cuda/step/attention_work.h"
#include "ops/cuda/step/step_graphs.h"
#include "ops/ops.h"

namespace apar::cuda {

// Ops on a CUDA device. All memory is allocated before the first step, so a model that does not fit is
// refused when it is opened. The residual stream and all sums are f32. The inputs of a linear layer are also
// kept rounded to bf16, which all weight formats but f32 multiply with. Steps of few rows are captured as
// CUDA graphs (step_graphs.h).
class CudaOps final : public Ops {
 public:
  // Throws Error{out_of_memory} when the KV pool and the buffers of a step do not fit, Error{invalid_config}.
  CudaOps(const OpsConfig& config, std::unique_ptr<Device> device);

  std::string device() const override;
  float* allocate(size_t count, Axis axis) override;
  Matrix place(const Matrix& host, Axis axis) override;
  Linear place_linear(const Matrix& host, WeightFormat format, LinearAxes axes) override;
  bool places_pairs() const override { return fusion_; }
  GatedLinears place_gated(const Matrix& gate, const Matrix& up, WeightFormat format,
                           LinearAxes axes) override;
  void begin_step(const StepBatch& batch) override;
  void embed(const Matrix& table, float* x) override;
  void rms_norm(float* x, const float* residual, const float* weight, int32_t rows, int32_t width, float eps,
                float* out) override;
  void matmul(const float* x, int32_t rows, std::span<const Projection> projections) override;
  void gated_matmul(const float* x, int32_t rows, const Projection& gate, const Projection& up) override;
  void rope_and_store(int32_t layer, float* q, float* k, const float* v,
                      const HeadTransform& transform) override;
  void attention(int32_t layer, const float* q, float* out) override;
  void swiglu(float* gate, const float* up, size_t count) override;
  void gather_rows(const float* x, std::span<const int32_t> row_ids, int32_t width, float* out) override;
  void logits(const float* x, int32_t rows, const Linear& head, std::span<float> out) override;
  void pick_rows(const float* x, std::span<const int32_t> row_ids, int32_t width, float* out) override;
  void pick_embeddings(const Matrix& table, std::span<const int32_t> tokens, float* out) override;
  void add(const float* x, const float* y, int32_t rows, int32_t width, float* out) override;
  void add_silu(const float* x, const float* y, int32_t rows, int32_t width, float* out,
                int32_t first_row) override;
  void top_tokens(const float* x, int32_t rows, std::span<const Linear> heads, int32_t vocab, int32_t top_k,
                  std::span<TokenLogit> top, std::span<float> log_sums) override;
  void copy_slots(std::span<const SlotCopy> copies) override;
  void end_step() override { finish_step(); }
  double step_seconds() override { return timer_ == nullptr ? 0 : timer_->seconds(); }
  bool draws_tokens() const override { return true; }
  void draw_tokens(const float* x, int32_t rows, const Linear& head, std::span<const TokenDraw> draws,
                   std::span<DrawnToken> drawn) override;

  // Runs an operation, or a collective in the order of operations (cuda_rank.cpp): calls body(stream, padded
  // rows), unless the step replays a graph that already contains it. Outside of a step rows are not padded.
  template <class Body>
  void enqueue(int32_t rows, Body body) {
    if (graphs_.replaying()) return;
    StepGraphs::Operation operation(graphs_);
    body(stream_, graphs_.open() ? padded(rows) : rows);
    operation.done();
  }

 private:
  // Activations, and the same values rounded to bf16.
  struct Buffer {
    size_t count = 0;
    uint16_t* bf16 = nullptr;
  };
  // Linear::data points to this.
  struct PlacedLinear {
    const void* weights = nullptr;
    bool packed = false;
    DType plain_dtype = DType::f32;
  };

  // The inputs of a product.
  struct Inputs {
    const float* x = nullptr;
    const uint16_t* bf16 = nullptr;
    int32_t rows = 0;
  };

  const Buffer& buffer(const float* data) const;
  int32_t padded(int32_t rows) const;
  int32_t width_of(const float* data) const;
  uint64_t pool_tokens() const;
  KvLayer kv_layer(int32_t layer) const;
  void allocate_kv();
  void allocate_drafts();
  void fill_rope_table();
  void finish_step();
  void wait();
  void all_done();
  const int32_t* upload_ids(PinnedArray<int32_t>& to, std::span<const int32_t> ids);
  template <class Pack>
  void upload_tiles(int32_t tiles, size_t row_bytes, void* to, Pack pack);
  void upload_all(void* to, const void* from, size_t bytes);
  void compute_logits(const float* x, int32_t rows, const Linear& head);
  GemmCall call_of(const Inputs& inputs) const;
  GemmPlan plan_of(const GemmCall& call, WeightFormat format) const;
  void multiply(const Inputs& inputs, std::span<const Projection> projections);
  void multiply_pair(const Inputs& inputs, const Projection& gate, const Projection& up);
  void run(const GemmCall& call, WeightFormat format, const GemmPlan& plan);

  OpsConfig config_;
  HeadShape shape_;
  std::unique_ptr<Device> device_;
  Stream stream_;
  std::map<const float*, Buffer> buffers_;
  std::vector<std::unique_ptr<PlacedLinear>> linears_;
  std::byte* keys_ = nullptr;  // [layer][block][kv_head][kBlockTokens][head_dim]
  std::byte* values_ = nullptr;
  KvScale* kv_scales_ = nullptr;  // [layer][block][kv_head][kBlockTokens], only for fp8
  float* rope_ = nullptr;         // [max_context][rope_frequencies][cos, sin]
  AttentionPartials attention_partials_;
  AttentionGrid attention_grid_;

  const bool fusion_ = switched_on("APAR_CUDA_FUSION", true);
  const Sharing sharing_ = sharing_from_environment();
  AttentionWork work_;
  AttentionLimits limits_;
  std::vector<int32_t> words_;      // the step as uploaded
  int32_t* pinned_step_ = nullptr;  // [max_step_words_]
  StepHeader* step_ = nullptr;      // on the device
  size_t max_step_words_ = 0;
  StepGraphs graphs_;
  std::unique_ptr<Timer> timer_;  // only if OpsConfig::time_steps
  int32_t rows_ = 0;
  bool in_flight_ = false;  // the device may still read pinned_step_

  Staging staging_;
  GemmBackend gemm_backend_ = gemm_backend_from_environment();
  std::unique_ptr<CublasLt> cublaslt_ = CublasLt::open(*device_, gemm_backend_);
  GemmDevice gemm_device_;
  GemmScratch scratch_;  // the sizes of partials_ and arrived_
  float* partials_ = nullptr;
  int32_t* arrived_ = nullptr;
  float* logits_ = nullptr;  // on the device
  size_t max_logits_ = 0;
  TokenDraw *draws_ = nullptr, *pinned_draws_ = nullptr;  // [max_rows]
  DrawnToken *drawn_ = nullptr, *pinned_drawn_ = nullptr;
  PinnedArray<SlotCopy> copies_;         // [max_rows]
  PinnedArray<int32_t> picks_, tokens_;  // [draft_rows], as log_sums_
  PinnedArray<float> log_sums_;
  PinnedArray<int32_t> top_tokens_;  // [draft_rows, kMaxDraftTokens]
  PinnedArray<float> top_logits_;    // the same
};

}  // namespace apar::cuda
