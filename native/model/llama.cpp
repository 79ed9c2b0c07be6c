#include "model/llama.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "common/error.h"
#include "model/batch_check.h"
#include "model/llama_layout.h"
#include "model/medusa_heads.h"
#include "model/medusa_layout.h"
#include "model/packed_cache.h"
#include "model/weights.h"
#include "ops/cpu/cpu_ops.h"

namespace apar {
namespace {

// A linear layer with its bias, which is null if it has none.
struct BiasedLinear {
  Linear w;
  const float* bias = nullptr;

  Projection to(float* y) const { return {w, y, bias}; }
};

struct Layer {
  const float *attention_norm = nullptr, *mlp_norm = nullptr;
  BiasedLinear q, k, v, o, gate, up, down;
  HeadTransform heads;
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

class Llama final : public Model {
 public:
  Llama(const ModelConfig& config, const WeightTable& table, ModelFormat format, int32_t num_blocks,
        const StepRows& rows, const MakeOps& make_ops, const LoadProgress& progress)
      : config_(config),
        table_(table),
        weights_(table),
        ops_config_(ops_config(config, format.kv, num_blocks, rows)),
        limits_{config.vocab_size, num_blocks, rows.max, rows.max_with_logits, ops_config_.max_context},
        ops_(make_ops(ops_config_)) {
    place_weights(format.weights, progress);
    const auto buffer = [&](const ActivationBuffers::Buffer& each) {
      return ops_->allocate(static_cast<size_t>(rows.max) * each.width, each.axis);
    };
    const ActivationBuffers buffers = activation_buffers(config);
    x_ = buffer(buffers.x);
    logit_x_ = buffer(buffers.logit_x);
    hidden_ = buffer(buffers.hidden);
    q_ = buffer(buffers.q);
    k_ = buffer(buffers.k);
    v_ = buffer(buffers.v);
    attended_ = buffer(buffers.attended);
    logit_attended_ = buffer(buffers.logit_attended);
    gate_ = buffer(buffers.gate);
    up_ = buffer(buffers.up);
  }

  const ModelConfig& config() const override { return config_; }
  std::string device() const override { return ops_->device(); }
  int32_t num_blocks() const override { return limits_.num_blocks; }
  int32_t max_rows() const override { return limits_.max_rows; }
  int32_t max_logit_rows() const override { return limits_.max_logit_rows; }

  void forward(const StepBatch& batch, std::span<float> logits) override {
    check_batch(batch, logits.size(), limits_);
    run_layers(batch);
    if (batch.logit_rows.empty()) return ops_->end_step();
    ops_->logits(hidden_, static_cast<int32_t>(batch.logit_rows.size()), head_.w, logits);
  }

  bool draws() const override { return ops_->draws_tokens(); }

  void draw(const StepBatch& batch, std::span<const TokenDraw> draws, std::span<DrawnToken> drawn) override {
    check_batch(batch, batch.logit_rows.size() * static_cast<size_t>(config_.vocab_size), limits_);
    run_layers(batch);
    if (batch.logit_rows.empty()) return ops_->end_step();
    ops_->draw_tokens(hidden_, static_cast<int32_t>(batch.logit_rows.size()), head_.w, draws, drawn);
  }

  int32_t draft_heads() const override { return config_.medusa.num_heads; }

  void draft(std::span<const DraftRow> rows, int32_t top_k, std::span<DraftCandidate> out) override {
    check_draft(rows, top_k, out.size(), {logit_rows_, config_.medusa.num_heads, config_.vocab_size});
    medusa_->draft(hidden_, rows, top_k, out);
  }

  void copy_slots(std::span<const SlotCopy> copies) override {
    check_copies(copies, limits_.num_blocks);
    if (!copies.empty()) ops_->copy_slots(copies);
  }

 private:
  // Leaves the output of the final norm of the logit rows in hidden_.
  void run_layers(const StepBatch& batch) {
    logit_rows_ = 0;  // hidden_ is overwritten
    ops_->begin_step(batch);
    ops_->embed(embedding_, x_);
    float* x = x_;
    const float* residual = nullptr;  // output of the previous layer, added to x by the next norm
    int32_t rows = batch.rows();
    for (int32_t index = 0; index < config_.num_layers; ++index) {
      const Layer& layer = layers_[index];
      norm(x, residual, layer.attention_norm, rows);
      const Projection qkv[] = {layer.q.to(q_), layer.k.to(k_), layer.v.to(v_)};
      ops_->matmul(hidden_, rows, qkv);
      ops_->rope_and_store(index, q_, k_, v_, layer.heads);
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
      const Projection o = layer.o.to(hidden_);
      ops_->matmul(attended, rows, {&o, 1});
      residual = mlp(layer, x, rows);
    }
    norm(x, residual, final_norm_, rows);
    logit_rows_ = rows;
  }

  int32_t q_width() const { return config_.num_heads * config_.head_dim; }

  void norm(float* x, const float* residual, const float* weight, int32_t rows) {
    ops_->rms_norm(x, residual, weight, rows, config_.hidden_size, config_.rms_norm_eps, hidden_);
  }

  // Expects the output of attention in hidden_. Returns the output of the layer, which is not yet added to x.
  const float* mlp(const Layer& layer, float* x, int32_t rows) {
    norm(x, hidden_, layer.mlp_norm, rows);
    ops_->gated_matmul(hidden_, rows, layer.gate.to(gate_), layer.up.to(up_));
    const Projection down = layer.down.to(hidden_);
    ops_->matmul(gate_, rows, {&down, 1});
    return hidden_;
  }

  void place_weights(WeightFormat format, const LoadProgress& progress) {
    const int64_t hidden = config_.hidden_size;
    layers_.resize(static_cast<size_t>(config_.num_layers));
    std::vector<BiasedLinear*> placed;  // in the order of linear_layers()
    for (int32_t index = 0; index < config_.num_layers; ++index) {
      const std::string name = "model.layers." + std::to_string(index) + ".";
      Layer& layer = layers_[static_cast<size_t>(index)];
      layer.attention_norm = vector(name + "input_layernorm.weight", hidden);
      layer.mlp_norm = vector(name + "post_attention_layernorm.weight", hidden);
      if (config_.head_norms) {
        layer.heads.q_norm = vector(name + "self_attn.q_norm.weight", config_.head_dim);
        layer.heads.k_norm = vector(name + "self_attn.k_norm.weight", config_.head_dim);
        layer.heads.norm_eps = config_.rms_norm_eps;
      }
      layer.heads.rotate =
          std::ranges::find(config_.layers_without_rope, index) == config_.layers_without_rope.end();
      for (BiasedLinear* each : {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down})
        placed.push_back(each);
    }
    final_norm_ = vector("model.norm.weight", hidden);
    placed.push_back(&head_);
    const std::vector<LinearLayer> linears = linear_layers(config_);
    LoadCounter counter(progress);
    const uint64_t table_bytes = weights_.mapped(kEmbeddingTable, config_.vocab_size, hidden).size();
    counter.expect(table_bytes);
    for (const LinearLayer& each : linears)
      counter.expect(weights_.mapped(each.tensor, each.rows, each.cols).size());
    counter.expect(medusa_bytes(table_));
    const Matrix table = weights_.matrix(kEmbeddingTable, config_.vocab_size, hidden, table_dtype(format));
    embedding_ = ops_->place(table, Axis::whole);
    counter.add(table_bytes);
    place_linears(linears, placed, format, table, counter);
    const MedusaSource source = {.config = config_,
                                 .table = table_,
                                 .weights = weights_,
                                 .ops = *ops_,
                                 .format = format,
                                 .embedding = embedding_,
                                 .lm_head = head_.w,
                                 .max_rows = limits_.max_rows};
    medusa_.emplace(source, [&](uint64_t bytes) { counter.add(bytes); });
  }

  const float* vector(const std::string& tensor, int64_t size, Axis axis = Axis::whole) {
    return static_cast<const float*>(ops_->place(weights_.vector(tensor, size), axis).data);
  }

  // Only quantised layers are cached for the next start: bf16 is packed faster than it could be read back.
  void place_linears(std::span<const LinearLayer> linears, std::span<BiasedLinear* const> placed,
                     WeightFormat format, const Matrix& table, LoadCounter& counter) {
    // A tied head is made from the table if it would be decoded to the same numbers.
    const auto is_table = [&](const std::string& tensor, WeightFormat own) {
      return tensor == kEmbeddingTable && table.dtype == decoded_dtype(own);
    };
    std::vector<PackedCache::Layer> sizes;
    std::vector<WeightFormat> formats;
    for (const LinearLayer& each : linears) {
      formats.push_back(layer_format(each, table_, format));
      sizes.push_back({each.tensor, ops_->packed_bytes(formats.back(), each.rows, each.cols)});
    }
    const bool quantised = format == WeightFormat::int8 || format == WeightFormat::int4;
    const std::string layout = quantised ? ops_->packed_layout() : "";
    if (!layout.empty()) cache_.emplace(decoder_weights(table_), layout, format, std::move(sizes));
    const auto cached = cache_ ? cache_->load() : std::vector<const std::byte*>{};
    const auto read = [&](size_t i) {
      const auto mapped = [&](const LinearLayer& each) {
        return weights_.mapped(each.tensor, each.rows, each.cols);
      };
      if (i + 1 < linears.size()) read_ahead(mapped(linears[i + 1]));
      const LinearLayer& layer = linears[i];
      return is_table(layer.tensor, formats[i])
                 ? StoredMatrix{table, nullptr}
                 : weights_.stored(layer.tensor, layer.rows, layer.cols, decoded_dtype(formats[i]));
    };
    const auto finish = [&](size_t i, const Linear& w, StoredMatrix stored) {
      placed[i]->w = w;
      if (w.data == stored.matrix.data)
        weights_.keep(std::move(stored));
      else
        release_pages(weights_.mapped(linears[i].tensor, linears[i].rows, linears[i].cols));
    };
    const bool pairs = ops_->places_pairs();
    StoredMatrix gate;  // is placed together with the layer after it
    for (size_t i = 0; i < linears.size(); ++i) {
      const auto& [tensor, rows, cols, axes, bias, is_gate] = linears[i];
      if (!bias.empty()) placed[i]->bias = vector(bias, rows, axes.outputs);
      if (!cached.empty()) {
        placed[i]->w = {cached[i], formats[i], rows, cols};
      } else if (is_gate && pairs) {
        gate = read(i);
      } else if (pairs && i > 0 && linears[i - 1].gate) {
        StoredMatrix up = read(i);
        const GatedLinears both = ops_->place_gated(gate.matrix, up.matrix, formats[i], axes);
        finish(i - 1, both.gate, std::move(gate));
        finish(i, both.up, std::move(up));
      } else {
        StoredMatrix stored = read(i);
        const Linear w = ops_->place_linear(stored.matrix, formats[i], axes);
        finish(i, w, std::move(stored));
      }
      counter.add(weights_.mapped(tensor, rows, cols).size());
    }
    if (!cache_ || !cached.empty()) return;
    std::vector<const std::byte*> packed;
    for (const BiasedLinear* each : placed) packed.push_back(static_cast<const std::byte*>(each->w.data));
    cache_->save(packed);
  }

  ModelConfig config_;
  WeightTable table_;
  Weights weights_;
  std::optional<PackedCache> cache_;  // the layers may point into its file
  OpsConfig ops_config_;
  BatchLimits limits_;
  std::unique_ptr<Ops> ops_;
  Matrix embedding_;
  const float* final_norm_ = nullptr;
  BiasedLinear head_;
  std::optional<MedusaHeads> medusa_;
  int32_t logit_rows_ = 0;  // of the last step: the rows of hidden_ that draft() may read
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
                                  int32_t num_blocks, StepRows rows, const MakeOps& make_ops,
                                  const LoadProgress& progress) {
  config.validate();
  // A slot, block * 16 + offset, is an int32.
  require_range("num_blocks", num_blocks, std::numeric_limits<int32_t>::max() / kBlockTokens);
  require_range("max_rows", rows.max, int32_t{1} << 20);
  require_range("max_logit_rows", rows.max_with_logits, rows.max);
  return std::make_unique<Llama>(config, table, format, num_blocks, rows, make_ops, progress);
}

std::unique_ptr<Model> open_llama(const ModelConfig& config, const WeightTable& table, ModelFormat format,
                                  int32_t num_blocks, StepRows rows, int32_t threads) {
  require_range("threads", threads, 256);
  return open_llama(config, table, format, num_blocks, rows, [threads](const OpsConfig& ops_config) {
    return std::make_unique<cpu::CpuOps>(ops_config, cpu::select_isa(), threads);
  });
}

}  // namespace apar
