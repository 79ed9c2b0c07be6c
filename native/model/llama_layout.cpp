#include "model/llama_layout.h"

#include <algorithm>

#include "common/matrix.h"
#include "common/step_batch.h"
#include "model/medusa_layout.h"

namespace apar {
namespace {

int64_t q_width(const ModelConfig& config) {
  return int64_t{config.num_heads} * config.head_dim;
}

}  // namespace

std::vector<LinearLayer> linear_layers(const ModelConfig& config) {
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  const int64_t q_rows = q_width(config), kv_rows = config.kv_width();
  const LinearAxes to_heads = {.outputs = Axis::heads}, from_heads = {.inputs = Axis::heads},
                   to_kv_heads = {.outputs = Axis::kv_heads}, to_inner = {.outputs = Axis::intermediate},
                   from_inner = {.inputs = Axis::intermediate};
  std::vector<LinearLayer> layers;
  const auto add = [&](const std::string& name, int64_t rows, int64_t cols, LinearAxes axes, bool bias) {
    layers.push_back({name + ".weight", rows, cols, axes, bias ? name + ".bias" : ""});
  };
  const auto [qkv_bias, output_bias, mlp_bias] = config.biases;
  for (int32_t index = 0; index < config.num_layers; ++index) {
    const std::string name = "model.layers." + std::to_string(index) + ".";
    add(name + "self_attn.q_proj", q_rows, hidden, to_heads, qkv_bias);
    add(name + "self_attn.k_proj", kv_rows, hidden, to_kv_heads, qkv_bias);
    add(name + "self_attn.v_proj", kv_rows, hidden, to_kv_heads, qkv_bias);
    add(name + "self_attn.o_proj", hidden, q_rows, from_heads, output_bias);
    add(name + "mlp.gate_proj", inner, hidden, to_inner, mlp_bias);
    layers.back().gate = true;
    add(name + "mlp.up_proj", inner, hidden, to_inner, mlp_bias);
    add(name + "mlp.down_proj", hidden, inner, from_inner, mlp_bias);
  }
  layers.push_back({config.tie_word_embeddings ? kEmbeddingTable : "lm_head.weight",
                    config.vocab_size,
                    hidden,
                    {.outputs = Axis::vocabulary},
                    ""});
  return layers;
}

uint64_t norm_weights(const ModelConfig& config) {
  const auto hidden = static_cast<uint64_t>(config.hidden_size),
             head = static_cast<uint64_t>(config.head_dim);
  return static_cast<uint64_t>(config.num_layers) * (2 * hidden + (config.head_norms ? 2 * head : 0)) +
         hidden;
}

ActivationBuffers activation_buffers(const ModelConfig& config) {
  const ActivationBuffers::Buffer hidden = {config.hidden_size, Axis::whole},
                                  heads = {q_width(config), Axis::heads},
                                  kv_heads = {config.kv_width(), Axis::kv_heads},
                                  inner = {config.intermediate_size, Axis::intermediate};
  return {.x = hidden,
          .logit_x = hidden,
          .hidden = hidden,
          .q = heads,
          .attended = heads,
          .logit_attended = heads,
          .k = kv_heads,
          .v = kv_heads,
          .gate = inner,
          .up = inner};
}

DType table_dtype(WeightFormat format) {
  return format == WeightFormat::f32 ? DType::f32 : DType::bf16;
}

DType decoded_dtype(WeightFormat format) {
  return format == WeightFormat::bf16 ? DType::bf16 : DType::f32;
}

WeightFormat layer_format(const LinearLayer& layer, const WeightTable& weights, WeightFormat format) {
  if (format != WeightFormat::int4_g128 || layer.axes.outputs != Axis::vocabulary) return format;
  const auto has_codes = [](const TensorInfo& tensor) {
    return tensor.dtype == DType::awq_4 || tensor.dtype == DType::gptq_4;
  };
  const auto is_layer = [&](const TensorInfo& tensor) { return tensor.name == layer.tensor; };
  const auto own = std::ranges::find_if(weights.tensors, is_layer);
  const bool plain = own != weights.tensors.end() && !needs_parts(own->dtype);
  return plain && std::ranges::any_of(weights.tensors, has_codes) ? WeightFormat::bf16 : format;
}

OpsConfig ops_config(const ModelConfig& config, KvFormat kv, int32_t num_blocks, const StepRows& rows) {
  return {.num_layers = config.num_layers,
          .num_heads = config.num_heads,
          .num_kv_heads = config.num_kv_heads,
          .head_dim = config.head_dim,
          .rope_frequencies = config.rope_frequencies,
          .rope_scale = config.rope_scale,
          .kv_format = kv,
          .num_blocks = num_blocks,
          .max_rows = rows.max,
          .max_logit_rows = rows.max_with_logits,
          .max_context = static_cast<int32_t>(
              std::min<int64_t>(config.context_tokens, int64_t{num_blocks} * kBlockTokens)),
          .max_inputs = std::max<int64_t>({config.hidden_size, config.intermediate_size, q_width(config)}),
          .draft_rows = rows_per_head(config.medusa, rows.max) * config.medusa.num_heads,
          .hidden_size = config.hidden_size,
          .intermediate_size = config.intermediate_size,
          .vocab_size = config.vocab_size};
}

}  // namespace apar
