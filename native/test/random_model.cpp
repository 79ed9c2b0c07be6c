#include "test/random_model.h"

#include <stdlib.h>

#include <cmath>
#include <cstdint>
#include <fstream>
#include <random>
#include <stdexcept>

#include "common/float16.h"
#include "common/matrix.h"
#include "test/random_numbers.h"

namespace apar::test {
namespace {

// Truncates and flushes subnormals to zero: enough for weights in (2^-14, 2), and no others are written here.
uint16_t f32_to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  return static_cast<uint16_t>(magnitude < 0x38800000u ? sign : sign | ((magnitude - 0x38000000u) >> 13));
}

class Writer {
 public:
  Writer(const std::filesystem::path& path, uint64_t seed, DType dtype)
      : out_(path, std::ios::binary), random_(seed), dtype_(dtype) {
    out_.exceptions(std::ios::failbit | std::ios::badbit);
    out_.write("\0\0\0\0\0\0\0\0", 8);  // in place of a file header
  }

  TensorInfo tensor(const std::string& name, std::vector<int64_t> shape, float mean, float spread) {
    const auto offset = static_cast<uint64_t>(out_.tellp());
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    for (int64_t i = 0; i < count; ++i) put(mean + spread * random_float(random_));
    return {name, 0, offset, dtype_, std::move(shape)};
  }

  void close() { out_.close(); }

 private:
  void put(float value) {
    const uint16_t half = dtype_ == DType::bf16 ? f32_to_bf16(value) : f32_to_f16(value);
    if (dtype_ == DType::f32)
      out_.write(reinterpret_cast<const char*>(&value), 4);
    else
      out_.write(reinterpret_cast<const char*>(&half), 2);
  }

  std::ofstream out_;
  std::mt19937 random_;
  DType dtype_;
};

}  // namespace

TempDir::TempDir() {
  std::string pattern = (std::filesystem::temp_directory_path() / "apar-test-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("cannot make " + pattern);
  path_ = pattern;
}

TempDir::~TempDir() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

ModelConfig small_config() {
  ModelConfig config{.vocab_size = 61,
                     .hidden_size = 36,
                     .intermediate_size = 50,
                     .num_layers = 2,
                     .num_heads = 6,
                     .num_kv_heads = 2,
                     .context_tokens = 512,
                     .rms_norm_eps = 1e-5f,
                     .tie_word_embeddings = false};
  set_head_dim(config, 10);
  return config;
}

void set_head_dim(ModelConfig& config, int32_t head_dim, double rope_theta) {
  config.head_dim = head_dim;
  config.rope_frequencies.clear();
  for (int32_t i = 0; i < head_dim / 2; ++i)
    config.rope_frequencies.push_back(static_cast<float>(std::pow(rope_theta, -2.0 * i / head_dim)));
}

ModelConfig with_all_features(ModelConfig config) {
  config.rope_frequencies.resize((config.rope_frequencies.size() + 2) / 2);
  config.rope_scale = 1.25f;
  config.layers_without_rope = {1};
  config.biases = {true, true, true};
  config.head_norms = true;
  return config;
}

RandomModel make_random_model(const ModelConfig& config, uint64_t seed, DType dtype) {
  RandomModel model{{}, config, {}};
  const std::string path = (model.dir.path() / "weights.bin").string();
  model.weights.files.push_back(path);
  Writer writer(path, seed, dtype);
  auto& tensors = model.weights.tensors;
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  const int64_t q_width = int64_t{config.num_heads} * config.head_dim, kv_width = config.kv_width();
  const auto matrix = [&](const std::string& name, int64_t rows, int64_t cols, bool bias) {
    const float spread = 2.0f / std::sqrt(static_cast<float>(cols));
    tensors.push_back(writer.tensor(name + ".weight", {rows, cols}, 0, spread));
    if (bias) tensors.push_back(writer.tensor(name + ".bias", {rows}, 0, 0.5f));
  };
  const auto norm = [&](const std::string& name, int64_t width) {
    tensors.push_back(writer.tensor(name + ".weight", {width}, 1, 0.25f));
  };
  const auto [qkv_bias, output_bias, mlp_bias] = config.biases;
  tensors.push_back(writer.tensor("model.embed_tokens.weight", {config.vocab_size, hidden}, 0, 1));
  for (int32_t index = 0; index < config.num_layers; ++index) {
    const std::string layer = "model.layers." + std::to_string(index) + ".";
    norm(layer + "input_layernorm", hidden);
    matrix(layer + "self_attn.q_proj", q_width, hidden, qkv_bias);
    matrix(layer + "self_attn.k_proj", kv_width, hidden, qkv_bias);
    matrix(layer + "self_attn.v_proj", kv_width, hidden, qkv_bias);
    matrix(layer + "self_attn.o_proj", hidden, q_width, output_bias);
    if (config.head_norms) {
      norm(layer + "self_attn.q_norm", config.head_dim);
      norm(layer + "self_attn.k_norm", config.head_dim);
    }
    norm(layer + "post_attention_layernorm", hidden);
    matrix(layer + "mlp.gate_proj", inner, hidden, mlp_bias);
    matrix(layer + "mlp.up_proj", inner, hidden, mlp_bias);
    matrix(layer + "mlp.down_proj", hidden, inner, mlp_bias);
  }
  norm("model.norm", hidden);
  if (!config.tie_word_embeddings) matrix("lm_head", config.vocab_size, hidden, false);
  if (config.medusa.reads_next_token) matrix("medusa.next_token", hidden, hidden, false);
  for (int32_t head = 0; head < config.medusa.num_heads; ++head) {
    const std::string name = "medusa." + std::to_string(head) + ".";
    const int32_t blocks = config.medusa.num_layers;
    for (int32_t block = 0; block < blocks; ++block)
      matrix(name + std::to_string(block) + ".linear", hidden, hidden, true);
    if (!config.medusa.shares_lm_head)
      matrix(name + std::to_string(blocks), config.medusa.vocab_size, hidden, false);
  }
  writer.close();
  return model;
}

}  // namespace apar::test
