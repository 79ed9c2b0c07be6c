#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace apar {

// The type of a stored tensor, by the names of safetensors and GGUF. From q8_0 to iq4_nl, a row is a sequence
// of blocks whose weights share scales (common/block_formats.h). From f8_e4m3 to gptq_8 a matrix holds codes,
// whose scales are tensors of their own (TensorInfo::quantised); i32 is a part of such a matrix.
enum class DType : uint8_t {
  f32,
  bf16,
  f16,
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  f8_e4m3,
  awq_4,
  gptq_4,
  gptq_8,
  i32
};

// "F32", "BF16", "F16", "Q8_0", ... Throws Error{invalid_config} for any other name.
DType parse_dtype(const std::string& name);

// The format of the weights of linear layers, which also fixes the precision of their products. int8 and int4
// are symmetric with one scale per group of 32 inputs, fp8 is e4m3 with one scale per output. int4_g128 has a
// scale and a zero point per group of 128 inputs, as AWQ and GPTQ (docs/adr/0087).
enum class WeightFormat : uint8_t { f32, bf16, int8, int4, f16, fp8, int4_g128 };

// "f32", "bf16", "f16", "fp8", "int8", "int4" or "int4-g128". Throws Error{invalid_config} for any other
// name.
const char* to_string(WeightFormat format);
WeightFormat parse_weight_format(const std::string& name);

// Formats that only CUDA devices support.
constexpr bool is_for_cuda(WeightFormat format) {
  return format == WeightFormat::f16 || format == WeightFormat::fp8 || format == WeightFormat::int4_g128;
}
// Neighbouring inputs of an output that share a scale; 1 for formats without such groups.
constexpr int64_t group_inputs(WeightFormat format) {
  if (format == WeightFormat::int8 || format == WeightFormat::int4) return 32;
  return format == WeightFormat::int4_g128 ? 128 : 1;
}

// The format of the KV cache. fp8 is e4m3 with one power of two as scale per token and KV head
// (docs/adr/0022); only CUDA devices support it.
enum class KvFormat : uint8_t { f32, bf16, fp8 };

// The formats of weights and KV cache. The default of the cache is f32 with f32 weights, else bf16.
struct ModelFormat {
  WeightFormat weights = WeightFormat::f32;
  KvFormat kv = KvFormat::f32;

  constexpr ModelFormat(WeightFormat format)
      : weights(format), kv(format == WeightFormat::f32 ? KvFormat::f32 : KvFormat::bf16) {}
  constexpr ModelFormat(WeightFormat format, KvFormat kv_format) : weights(format), kv(kv_format) {}
};

// "f32", "bf16" or "fp8".
const char* to_string(KvFormat format);
// `kv` is "auto" (the default for these weights) or "fp8". Throws Error{invalid_config} for any other name.
ModelFormat parse_model_format(WeightFormat weights, const std::string& kv);

// Which linear layers add a bias vector to their outputs.
struct LayerBiases {
  bool qkv = false;
  bool attention_output = false;
  bool mlp = false;  // gate, up and down
};

// Medusa heads (arXiv 2401.10774) beside a decoder. A head is residual blocks x + silu(W x + b) of the hidden
// size, then a projection to logits. Head i, from 0, predicts the token at offset i + 2. They may read the
// next token, too: then x is the hidden state plus W times the embedding of the token behind it
// (docs/adr/0080).
struct MedusaConfig {
  int32_t num_heads = 0;        // at most kMaxHeads; 0: no heads
  int32_t num_layers = 0;       // residual blocks of each head, at most kMaxLayers
  bool shares_lm_head = false;  // the projection is the decoder's own; else every head has one
  // Rows of the projections that are used, at most the decoder's vocab_size: tokens beyond them are never
  // candidates. The heads' own projections have no others.
  int32_t vocab_size = 0;
  bool reads_next_token = false;

  static constexpr int32_t kMaxHeads = 8, kMaxLayers = 8;
};

// The shape of a decoder: the sizes of a Llama, and what other architectures do differently
// (gpu-node/engine/engine-config.ts).
struct ModelConfig {
  int32_t vocab_size = 0;
  int32_t hidden_size = 0;
  int32_t intermediate_size = 0;
  int32_t num_layers = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  int32_t context_tokens = 0;
  float rms_norm_eps = 1e-5f;
  // Radians per position of each pair of elements. The first 2n elements of a head are rotated, element i
  // paired with i + n; its other elements stay as they are.
  std::vector<float> rope_frequencies = {};
  float rope_scale = 1.0f;                        // factor of all cosines and sines: yarn's attention factor
  std::vector<int32_t> layers_without_rope = {};  // their queries and keys are not rotated
  LayerBiases biases = {};
  bool head_norms = false;  // queries and keys go through an RMS norm of each head before they are rotated
  bool tie_word_embeddings = false;
  MedusaConfig medusa = {};

  int32_t kv_width() const { return num_kv_heads * head_dim; }
  // Throws Error{invalid_config} that names the first invalid field.
  void validate() const;
};

// A matrix of codes: a weight is scale * code, or scale * (code - zero point). The parts are tensors of their
// own, by name; model/quantised_layer.h has the arithmetic.
struct QuantisedInfo {
  // Weights of this many neighbouring outputs and inputs share a scale, at least 1 of each.
  int64_t block_outputs = 1, block_inputs = 1;
  // f8_e4m3: [blocks of outputs, blocks of inputs]; else [groups of inputs, outputs].
  std::string scales;
  // Zero points, packed like the codes. Empty for f8_e4m3.
  std::string zeros;
  // The group of each input. Empty if neighbouring inputs form the groups.
  std::string groups;
  // What is added to a stored zero point.
  int32_t zero_offset = 0;
};

// LoRA (arXiv 2106.09685) of a tensor NAME: scale * B · A is added to it, where A is the tensor NAME.lora_A
// [rank, cols] and B is NAME.lora_B [rows, rank]. Transposed, as for embedding tables: scale * (B · A)ᵀ.
struct LoraUpdate {
  float scale = 0;
  bool transposed = false;
};

// The location of one tensor. TypeScript builds the table from safetensors headers; C++ maps the files.
struct TensorInfo {
  std::string name;     // Hugging Face name: model.layers.0.self_attn.q_proj.weight
  int32_t file = 0;     // index into WeightTable::files
  uint64_t offset = 0;  // bytes from the start of the file
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
  // Row 2 * i + h of each of this many heads is row i of the head's half h, as ggml stores q and k of Llama;
  // in a bias, the same of its elements. 0: they are in order.
  int32_t interleaved_heads = 0;
  std::optional<QuantisedInfo> quantised = std::nullopt;
  // What an adapter changes when the tensor is loaded. `replaced_rows` are the rows that tensor NAME.rows has
  // instead; they may lie beyond the stored ones, and the tensor then has more rows than `shape` says.
  std::optional<LoraUpdate> lora = std::nullopt;
  std::vector<int32_t> replaced_rows = {};

  bool updated() const { return lora.has_value() || !replaced_rows.empty(); }
};

struct WeightTable {
  std::vector<std::string> files;  // absolute paths
  std::vector<TensorInfo> tensors;
};

}  // namespace apar
