#include "model/llama.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "common/error.h"
#include "model/batch_check.h"
#include "model/packed_cache.h"
#include "model/weights.h"
#include "ops/cpu/cpu_ops.h"

namespace apar {
namespace {

struct Layer {
  Matrix attention_norm, mlp_norm;
  Linear q, k, v, o, gate, up, down;
};

struct NamedLinear {
  std::string name;
  int64_t rows, cols;
  LinearAxes axes;
  Linear* target;
};

// Counts the loaded bytes of the checkpoint. Norms are not counted: they are negligibly small.
class LoadCounter {
 public:
  explicit LoadCounter(const LoadProgress& progress) : progress_(progress) {}
  void expect(uint64_t bytes) { total_ += bytes; }
  void add(uint64_t bytes) {
    done_ += bytes;
    if (progress_) progress_(done_, total_);
  }

 private:
  const LoadProgress& progress_;
  uint64_t done_ = 0, total_ = 0;
};

int32_t max_context(const ModelConfig& config, int32_t num_blocks) {
  return static_cast<int32_t>(std::min<int64_t>(config.context_tokens, int64_t{num_blocks} * kBlockTokens));
}

class Llama final : public Model {
 public:
  Llama(const ModelConfig& config, const WeightTable& table, ModelFormat format, int32_t num_blocks,
        int32_t max_rows, const MakeOps& make_ops, const LoadProgress& progress)
      : config_(config),
        table_(table),
        weights_(table),
        limits_{config.vocab_size, num_blocks, max_rows, max_context(config, num_blocks)},
        ops_(make_ops({.num_layers = config.num_layers,
                       .num_heads = config.num_heads,
                       .num_kv_heads = config.num_kv_heads,
                       .head_dim = config.head_dim,
                       .rope_theta = config.rope_theta,
                       .kv_format = format.kv,
                       .num_blocks = num_blocks,
                       .max_rows = max_rows,
                       .max_context = limits_.max_context,
                       .max_inputs = std::max({config.hidden_size, config.intermediate_size, q_width()}),
                       .hidden_size = config.hidden_size,
                       .intermediate_size = config.intermediate_size,
                       .vocab_size = config.vocab_size})) {
    place_weights(format.weights, progress);
    const auto buffer = [&](int64_t width, Axis axis) {
      return ops_->allocate(static_cast<size_t>(max_rows) * width, axis);
    };
    x_ = buffer(config.hidden_size, Axis::whole);
    logit_x_ = buffer(config.hidden_size, Axis::whole);
    hidden_ = buffer(config.hidden_size, Axis::whole);
    q_ = buffer(q_width(), Axis::heads);
    k_ = buffer(config.kv_width(), Axis::kv_heads);
    v_ = buffer(config.kv_width(), Axis::kv_heads);
    attended_ = buffer(q_width(), Axis::heads);
    logit_attended_ = buffer(q_width(), Axis::heads);
    gate_ = buffer(config.intermediate_size, Axis::intermediate);
    up_ = buffer(config.intermediate_size, Axis::intermediate);
  }

  const ModelConfig& config() const override { return config_; }
  std::string device() const override { return ops_->device(); }
  int32_t num_blocks() const override { return limits_.num_blocks; }
  int32_t max_rows() const override { return limits_.max_rows; }

  void forward(const StepBatch& batch, std::span<float> logits) override {
    check_batch(batch, logits.size(), limits_);
    run_layers(batch);
    if (batch.logit_rows.empty()) return ops_->end_step();
    ops_->logits(hidden_, static_cast<int32_t>(batch.logit_rows.size()), head_, logits);
  }

  bool draws() const override { return ops_->draws_tokens(); }

  void draw(const StepBatch& batch, std::span<const TokenDraw> draws, std::span<DrawnToken> drawn) override {
    check_batch(batch, batch.logit_rows.size() * static_cast<size_t>(config_.vocab_size), limits_);
    run_layers(batch);
    if (batch.logit_rows.empty()) return ops_->end_step();
    ops_->draw_tokens(hidden_, static_cast<int32_t>(batch.logit_rows.size()), head_, draws, drawn);
  }

 private:
  // Leaves the output of the final norm of the logit rows in hidden_.
  void run_layers(const StepBatch& batch) {
    ops_->begin_step(batch);
    ops_->embed(embedding_, x_);
    float* x = x_;
    const float* residual = nullptr;  // output of the previous layer, added to x by the next norm
    int32_t rows = batch.rows();
    for (int32_t index = 0; index < config_.num_layers; ++index) {
      const Layer& layer = layers_[index];
      norm(x, residual, layer.attention_norm, rows);
      const Projection qkv[] = {{layer.q, q_}, {layer.k, k_}, {layer.v, v_}};
      ops_->matmul(hidden_, rows, qkv);
      ops_->rope_and_store(index, q_, k_, v_);
      const float* attended = attended_;
      const bool last = index + 1 == config_.num_layers;
      if (last && batch.logit_rows.empty()) return;
      ops_->attention(index, q_, attended_);
      // After the last attention no row depends on another: only the logit rows are computed further.
      if (last && batch.logit_rows.size() < batch.tokens.size()) {
        ops_->gather_rows(x_, batch.logit_rows, config_.hidden_size, logit_x_);
        ops_->gather_rows(attended_, batch.logit_rows, q_width(), logit_attended_);
        x = logit_x_;
        attended = logit_attended_;
        rows = static_cast<int32_t>(batch.logit_rows.size());
      }
      const Projection o = {layer.o, hidden_};
      ops_->matmul(attended, rows, {&o, 1});
      residual = mlp(layer, x, rows);
    }
    norm(x, residual, final_norm_, rows);
  }

  int32_t q_width() const { return config_.num_heads * config_.head_dim; }

  void norm(float* x, const float* residual, const Matrix& weight, int32_t rows) {
    ops_->rms_norm(x, residual, static_cast<const float*>(weight.data), rows, config_.hidden_size,
                   config_.rms_norm_eps, hidden_);
  }

  // Expects the output of attention in hidden_. Returns the output of the layer, which is not yet added to x.
  const float* mlp(const Layer& layer, float* x, int32_t rows) {
    norm(x, hidden_, layer.mlp_norm, rows);
    const Projection gate_up[] = {{layer.gate, gate_}, {layer.up, up_}};
    ops_->matmul(hidden_, rows, gate_up);
    ops_->swiglu(gate_, up_, static_cast<size_t>(rows) * config_.intermediate_size);
    const Projection down = {layer.down, hidden_};
    ops_->matmul(gate_, rows, {&down, 1});
    return hidden_;
  }

  void place_weights(WeightFormat format, const LoadProgress& progress) {
    const int64_t hidden = config_.hidden_size, inner = config_.intermediate_size;
    const int64_t q_rows = q_width(), kv_rows = config_.kv_width();
    const auto vector = [&](const std::string& name) {
      return ops_->place(weights_.vector(name + ".weight", hidden));
    };
    std::vector<NamedLinear> linears;
    const auto linear = [&](Linear& target, const std::string& name, int64_t rows, int64_t cols,
                            LinearAxes axes) {
      linears.push_back({name + ".weight", rows, cols, axes, &target});
    };
    const LinearAxes to_heads = {.outputs = Axis::heads}, to_kv_heads = {.outputs = Axis::kv_heads},
                     to_inner = {.outputs = Axis::intermediate};
    layers_.resize(static_cast<size_t>(config_.num_layers));
    for (int32_t index = 0; index < config_.num_layers; ++index) {
      const std::string name = "model.layers." + std::to_string(index) + ".";
      Layer& layer = layers_[static_cast<size_t>(index)];
      layer.attention_norm = vector(name + "input_layernorm");
      layer.mlp_norm = vector(name + "post_attention_layernorm");
      linear(layer.q, name + "self_attn.q_proj", q_rows, hidden, to_heads);
      linear(layer.k, name + "self_attn.k_proj", kv_rows, hidden, to_kv_heads);
      linear(layer.v, name + "self_attn.v_proj", kv_rows, hidden, to_kv_heads);
      linear(layer.o, name + "self_attn.o_proj", hidden, q_rows, {.inputs = Axis::heads});
      linear(layer.gate, name + "mlp.gate_proj", inner, hidden, to_inner);
      linear(layer.up, name + "mlp.up_proj", inner, hidden, to_inner);
      linear(layer.down, name + "mlp.down_proj", hidden, inner, {.inputs = Axis::intermediate});
    }
    final_norm_ = vector("model.norm");
    linear(head_, config_.tie_word_embeddings ? "model.embed_tokens" : "lm_head", config_.vocab_size, hidden,
           {.outputs = Axis::vocabulary});
    LoadCounter counter(progress);
    const char* const table = "model.embed_tokens.weight";
    const uint64_t table_bytes = weights_.stored_bytes(table, config_.vocab_size, hidden);
    counter.expect(table_bytes);
    for (const NamedLinear& each : linears)
      counter.expect(weights_.stored_bytes(each.name, each.rows, each.cols));
    const DType table_dtype = format == WeightFormat::f32 ? DType::f32 : DType::bf16;
    embedding_ = ops_->place(weights_.matrix(table, config_.vocab_size, hidden, table_dtype));
    counter.add(table_bytes);
    place_linears(linears, format, counter);
  }

  // Only quantised layers are cached for the next start: bf16 is packed faster than it could be read back.
  void place_linears(std::span<const NamedLinear> linears, WeightFormat format, LoadCounter& counter) {
    std::vector<PackedCache::Layer> sizes;
    for (const auto& [name, rows, cols, axes, target] : linears)
      sizes.push_back({name, ops_->packed_bytes(format, rows, cols)});
    const bool quantised = format == WeightFormat::int8 || format == WeightFormat::int4;
    const std::string layout = quantised ? ops_->packed_layout() : "";
    if (!layout.empty()) cache_.emplace(table_, layout, format, std::move(sizes));
    const auto cached = cache_ ? cache_->load() : std::vector<const std::byte*>{};
    std::vector<const std::byte*> packed;
    for (size_t i = 0; i < linears.size(); ++i) {
      const auto& [name, rows, cols, axes, target] = linears[i];
      if (cached.empty()) {
        StoredMatrix stored = weights_.stored(name, rows, cols);
        *target = ops_->place_linear(stored.matrix, format, axes);
        if (target->data == stored.matrix.data) weights_.keep(std::move(stored));
      } else {
        *target = {cached[i], format, rows, cols};
      }
      packed.push_back(static_cast<const std::byte*>(target->data));
      counter.add(weights_.stored_bytes(name, rows, cols));
    }
    if (cache_ && cached.empty()) cache_->save(packed);
  }

  ModelConfig config_;
  WeightTable table_;
  Weights weights_;
  std::optional<PackedCache> cache_;  // the layers may point into its file
  BatchLimits limits_;
  std::unique_ptr<Ops> ops_;
  Matrix embedding_, final_norm_;
  Linear head_;
  std::vector<Layer> layers_;
  float *x_ = nullptr, *logit_x_ = nullptr;  // [max_rows, hidden_size], the residual stream
  float* hidden_ = nullptr;                  // [max_rows, hidden_size], output of a norm, attention or MLP
  float *q_ = nullptr, *attended_ = nullptr, *logit_attended_ = nullptr;  // [max_rows, num_heads * head_dim]
  float *k_ = nullptr, *v_ = nullptr;      // [max_rows, num_kv_heads * head_dim]
  float *gate_ = nullptr, *up_ = nullptr;  // [max_rows, intermediate_size]
};

void require_range(const char* what, int64_t value, int64_t max) {
  if (value < 1 || value > max)
    throw Error(ErrorCode::invalid_config, std::string(what) + " must be in [1, " + std::to_string(max) +
                                               "], is " + std::to_string(value));
}

}  // namespace

std::unique_ptr<Model> open_llama(const ModelConfig& config, const WeightTable& table, ModelFormat format,
                                  int32_t num_blocks, int32_t max_rows, const MakeOps& make_ops,
                                  const LoadProgress& progress) {
  config.validate();
  // A slot, block * 16 + offset, is an int32.
  require_range("num_blocks", num_blocks, std::numeric_limits<int32_t>::max() / kBlockTokens);
  require_range("max_rows", max_rows, int32_t{1} << 20);
  return std::make_unique<Llama>(config, table, format, num_blocks, max_rows, make_ops, progress);
}

std::unique_ptr<Model> open_llama(const ModelConfig& config, const WeightTable& table, ModelFormat format,
                                  int32_t num_blocks, int32_t max_rows, int32_t threads) {
  require_range("threads", threads, 256);
  return open_llama(config, table, format, num_blocks, max_rows, [threads](const OpsConfig& ops_config) {
    return std::make_unique<cpu::CpuOps>(ops_config, cpu::select_isa(), threads);
  });
}

}  // namespace apar
