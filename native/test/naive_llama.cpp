#include "test/naive_llama.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <stdexcept>

namespace apar::test {
namespace {

using Vector = std::vector<double>;

double decode_half(uint16_t bits) {
  const int exponent = (bits >> 10) & 31, mantissa = bits & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

double decode_bf16(uint16_t bits) {
  const int exponent = (bits >> 7) & 255, mantissa = bits & 127;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -133) : std::ldexp(128 + mantissa, exponent - 134);
  return bits & 0x8000 ? -magnitude : magnitude;
}

// To 8 significant bits, ties to even (the rounding mode of nearbyint).
double round_to_bf16(double value) {
  if (value == 0) return 0;
  int exponent;
  const double fraction = std::frexp(value, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(fraction, 8)), exponent - 8);
}

Vector read(const WeightTable& table, const std::string& name, bool rounded) {
  const auto found = std::find_if(table.tensors.begin(), table.tensors.end(),
                                  [&](const TensorInfo& tensor) { return tensor.name == name; });
  if (found == table.tensors.end()) throw std::runtime_error("missing tensor " + name);
  size_t count = 1;
  for (const int64_t size : found->shape) count *= size;
  std::ifstream in(table.files.at(found->file), std::ios::binary);
  in.seekg(static_cast<std::streamoff>(found->offset));
  Vector values(count);
  for (double& value : values) {
    char bytes[4];
    in.read(bytes, found->dtype == DType::f32 ? 4 : 2);
    float single;
    uint16_t half;
    std::memcpy(&single, bytes, 4);
    std::memcpy(&half, bytes, 2);
    value = found->dtype == DType::f32   ? single
            : found->dtype == DType::f16 ? decode_half(half)
                                         : decode_bf16(half);
    if (rounded) value = round_to_bf16(value);
  }
  if (!in) throw std::runtime_error("the weight file is too short");
  return values;
}

}  // namespace

Vector NaiveLlama::Linear::operator()(const Vector& x) const {
  Vector y = bias;
  y.resize(weight.size() / x.size(), 0.0);
  for (size_t out = 0; out < y.size(); ++out)
    for (size_t i = 0; i < x.size(); ++i) y[out] += weight[out * x.size() + i] * x[i];
  return y;
}

NaiveLlama::NaiveLlama(const ModelConfig& config, const WeightTable& table, bool rounded) : config_(config) {
  const auto vector = [&](const std::string& name) { return read(table, name + ".weight", false); };
  const auto linear = [&](const std::string& name, bool bias) {
    return Linear{read(table, name + ".weight", rounded),
                  bias ? read(table, name + ".bias", false) : Vector{}};
  };
  embedding_ = read(table, "model.embed_tokens.weight", rounded);
  for (int32_t i = 0; i < config.num_layers; ++i) {
    const std::string name = "model.layers." + std::to_string(i) + ".";
    Layer& layer = layers_.emplace_back();
    layer.attention_norm = vector(name + "input_layernorm");
    layer.mlp_norm = vector(name + "post_attention_layernorm");
    if (config.head_norms) {
      layer.q_norm = vector(name + "self_attn.q_norm");
      layer.k_norm = vector(name + "self_attn.k_norm");
    }
    layer.q = linear(name + "self_attn.q_proj", config.biases.qkv);
    layer.k = linear(name + "self_attn.k_proj", config.biases.qkv);
    layer.v = linear(name + "self_attn.v_proj", config.biases.qkv);
    layer.o = linear(name + "self_attn.o_proj", config.biases.attention_output);
    layer.gate = linear(name + "mlp.gate_proj", config.biases.mlp);
    layer.up = linear(name + "mlp.up_proj", config.biases.mlp);
    layer.down = linear(name + "mlp.down_proj", config.biases.mlp);
    for (const int32_t still : config.layers_without_rope) layer.rotates = layer.rotates && still != i;
  }
  final_norm_ = vector("model.norm");
  head_ = config.tie_word_embeddings ? Linear{embedding_, {}} : linear("lm_head", false);
  if (config.medusa.reads_next_token) next_token_ = linear("medusa.next_token", false);
  for (int32_t i = 0; i < config.medusa.num_heads; ++i) {
    const std::string name = "medusa." + std::to_string(i) + ".";
    MedusaHead& head = medusa_.emplace_back();
    for (int32_t block = 0; block < config.medusa.num_layers; ++block)
      head.blocks.push_back(linear(name + std::to_string(block) + ".linear", true));
    head.projection =
        config.medusa.shares_lm_head ? head_ : linear(name + std::to_string(config.medusa.num_layers), false);
  }
}

Vector NaiveLlama::normalized(const Vector& x, const Vector& weight) const {
  double squares = 0;
  for (const double value : x) squares += value * value;
  Vector y(x.size());
  for (size_t i = 0; i < x.size(); ++i)
    y[i] = x[i] / std::sqrt(squares / static_cast<double>(x.size()) + config_.rms_norm_eps) * weight[i];
  return y;
}

void NaiveLlama::transform(Vector& heads, const Vector& norm, bool rotates, int32_t position) const {
  const size_t dim = config_.head_dim, half = config_.rope_frequencies.size();
  for (auto head = heads.begin(); head != heads.end(); head += config_.head_dim) {
    Vector x(head, head + config_.head_dim);
    if (!norm.empty()) x = normalized(x, norm);
    Vector y = x;
    for (size_t i = 0; rotates && i < half; ++i) {
      const double angle = position * double{config_.rope_frequencies[i]};
      const double cos = std::cos(angle) * config_.rope_scale, sin = std::sin(angle) * config_.rope_scale;
      y[i] = x[i] * cos - x[i + half] * sin;
      y[i + half] = x[i + half] * cos + x[i] * sin;
    }
    std::copy_n(y.begin(), dim, head);
  }
}

std::vector<double> NaiveLlama::logits(const std::vector<int32_t>& tokens) const {
  std::vector<double> logits;
  for (const Vector& row : hidden(tokens)) {
    const Vector values = head_(row);
    logits.insert(logits.end(), values.begin(), values.end());
  }
  return logits;
}

std::vector<double> NaiveLlama::head_logits(const std::vector<int32_t>& tokens,
                                            const std::vector<int32_t>& chosen, int32_t index) const {
  const MedusaHead& head = medusa_.at(static_cast<size_t>(index));
  std::vector<double> logits;
  std::vector<Vector> states = hidden(tokens);
  for (size_t row = 0; row < states.size(); ++row) {
    Vector& x = states[row];
    if (config_.medusa.reads_next_token) {
      const auto at = embedding_.begin() + int64_t{chosen[row]} * config_.hidden_size;
      const Vector y = next_token_(Vector(at, at + config_.hidden_size));
      for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
    }
    for (const Linear& block : head.blocks) {
      const Vector y = block(x);
      for (size_t i = 0; i < x.size(); ++i) x[i] += y[i] / (1 + std::exp(-y[i]));
    }
    Vector values = head.projection(x);
    values.resize(static_cast<size_t>(config_.medusa.vocab_size));
    values.resize(static_cast<size_t>(config_.vocab_size), -std::numeric_limits<double>::infinity());
    logits.insert(logits.end(), values.begin(), values.end());
  }
  return logits;
}

std::vector<Vector> NaiveLlama::hidden(const std::vector<int32_t>& tokens) const {
  const size_t dim = config_.head_dim, group = config_.num_heads / config_.num_kv_heads;
  const int32_t length = static_cast<int32_t>(tokens.size());
  std::vector<Vector> x;
  for (const int32_t token : tokens) {
    const auto row = embedding_.begin() + int64_t{token} * config_.hidden_size;
    x.emplace_back(row, row + config_.hidden_size);
  }
  for (const Layer& layer : layers_) {
    std::vector<Vector> keys, values;
    for (int32_t t = 0; t < length; ++t) {
      const Vector input = normalized(x[t], layer.attention_norm);
      Vector query = layer.q(input);
      keys.push_back(layer.k(input));
      values.push_back(layer.v(input));
      transform(query, layer.q_norm, layer.rotates, t);
      transform(keys[t], layer.k_norm, layer.rotates, t);
      Vector attended(query.size(), 0.0);
      for (size_t head = 0; head < static_cast<size_t>(config_.num_heads); ++head) {
        const size_t q_at = head * dim, kv_at = head / group * dim;
        Vector p(t + 1);
        for (int32_t s = 0; s <= t; ++s) {
          double score = 0;
          for (size_t i = 0; i < dim; ++i) score += query[q_at + i] * keys[s][kv_at + i];
          p[s] = score / std::sqrt(static_cast<double>(dim));
        }
        const double max = *std::max_element(p.begin(), p.end());
        double sum = 0;
        for (double& value : p) sum += value = std::exp(value - max);
        for (int32_t s = 0; s <= t; ++s)
          for (size_t i = 0; i < dim; ++i) attended[q_at + i] += p[s] / sum * values[s][kv_at + i];
      }
      const Vector added = layer.o(attended);
      for (size_t i = 0; i < added.size(); ++i) x[t][i] += added[i];
      const Vector mlp_input = normalized(x[t], layer.mlp_norm);
      Vector gate = layer.gate(mlp_input);
      const Vector up = layer.up(mlp_input);
      for (size_t i = 0; i < gate.size(); ++i) gate[i] *= up[i] / (1 + std::exp(-gate[i]));
      const Vector down = layer.down(gate);
      for (size_t i = 0; i < down.size(); ++i) x[t][i] += down[i];
    }
  }
  for (Vector& row : x) row = normalized(row, final_norm_);
  return x;
}

}  // namespace apar::test
