#include "common/model_config.h"

#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include "common/error.h"

namespace apar {
namespace {

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorCode::invalid_config, message);
}

void require_positive(const char* field, int64_t value) {
  if (value < 1) refuse(std::string(field) + " must be at least 1, is " + std::to_string(value));
}

void check_medusa(const MedusaConfig& medusa, int32_t vocab_size) {
  if (medusa.num_heads == 0) return;
  const auto require_range = [](const char* field, int32_t value, int32_t min, int32_t max) {
    if (value < min || value > max)
      refuse(std::string("medusa ") + field + " must be in [" + std::to_string(min) + ", " +
             std::to_string(max) + "], is " + std::to_string(value));
  };
  require_range("num_heads", medusa.num_heads, 1, MedusaConfig::kMaxHeads);
  require_range("num_layers", medusa.num_layers, medusa.shares_lm_head ? 1 : 0, MedusaConfig::kMaxLayers);
  require_range("vocab_size", medusa.vocab_size, 1, vocab_size);
}

}  // namespace

DType parse_dtype(const std::string& name) {
  static constexpr std::pair<std::string_view, DType> kNames[] = {
      {"F32", DType::f32},     {"BF16", DType::bf16},     {"F16", DType::f16},
      {"Q8_0", DType::q8_0},   {"Q4_0", DType::q4_0},     {"Q4_1", DType::q4_1},
      {"Q5_0", DType::q5_0},   {"Q5_1", DType::q5_1},     {"Q2_K", DType::q2_k},
      {"Q3_K", DType::q3_k},   {"Q4_K", DType::q4_k},     {"Q5_K", DType::q5_k},
      {"Q6_K", DType::q6_k},   {"IQ4_NL", DType::iq4_nl}, {"F8_E4M3", DType::f8_e4m3},
      {"AWQ_4", DType::awq_4}, {"GPTQ_4", DType::gptq_4}, {"GPTQ_8", DType::gptq_8},
      {"I32", DType::i32}};
  for (const auto& [known, dtype] : kNames)
    if (known == name) return dtype;
  refuse("unknown dtype " + name);
}

const char* to_string(WeightFormat format) {
  switch (format) {
    case WeightFormat::f32:
      return "f32";
    case WeightFormat::bf16:
      return "bf16";
    case WeightFormat::int8:
      return "int8";
    case WeightFormat::int4:
      return "int4";
    case WeightFormat::f16:
      return "f16";
    case WeightFormat::fp8:
      return "fp8";
    case WeightFormat::int4_g128:
      return "int4-g128";
  }
  return "unknown";
}

WeightFormat parse_weight_format(const std::string& name) {
  for (const auto format : {WeightFormat::f32, WeightFormat::bf16, WeightFormat::int8, WeightFormat::int4,
                            WeightFormat::f16, WeightFormat::fp8, WeightFormat::int4_g128})
    if (name == to_string(format)) return format;
  refuse("unknown dtype " + name);
}

const char* to_string(KvFormat format) {
  switch (format) {
    case KvFormat::f32:
      return "f32";
    case KvFormat::bf16:
      return "bf16";
    case KvFormat::fp8:
      return "fp8";
  }
  return "unknown";
}

ModelFormat parse_model_format(WeightFormat weights, const std::string& kv) {
  if (kv == "auto") return weights;
  if (kv == "fp8") return {weights, KvFormat::fp8};
  refuse("unknown KV cache dtype " + kv);
}

void ModelConfig::validate() const {
  require_positive("vocab_size", vocab_size);
  require_positive("hidden_size", hidden_size);
  require_positive("intermediate_size", intermediate_size);
  require_positive("num_layers", num_layers);
  require_positive("num_heads", num_heads);
  require_positive("num_kv_heads", num_kv_heads);
  require_positive("head_dim", head_dim);
  require_positive("context_tokens", context_tokens);
  if (num_heads % num_kv_heads != 0)
    refuse("num_kv_heads (" + std::to_string(num_kv_heads) + ") must divide num_heads (" +
           std::to_string(num_heads) + ")");
  if (head_dim % 2 != 0)
    refuse("head_dim must be even for rotary embeddings, is " + std::to_string(head_dim));
  if (int64_t{num_heads} * head_dim > std::numeric_limits<int32_t>::max())
    refuse("num_heads * head_dim does not fit 32 bits");
  if (!std::isfinite(rms_norm_eps) || rms_norm_eps < 0) refuse("rms_norm_eps must be a number >= 0");
  const size_t most = static_cast<size_t>(head_dim) / 2;
  if (rope_frequencies.empty() || rope_frequencies.size() > most)
    refuse("rope_frequencies must be 1 to " + std::to_string(most) + " numbers (half of head_dim), are " +
           std::to_string(rope_frequencies.size()));
  for (const float frequency : rope_frequencies)
    if (!std::isfinite(frequency) || frequency < 0) refuse("rope_frequencies must be numbers >= 0");
  if (!std::isfinite(rope_scale) || rope_scale <= 0) refuse("rope_scale must be a number > 0");
  for (const int32_t layer : layers_without_rope)
    if (layer < 0 || layer >= num_layers)
      refuse("layers_without_rope names layer " + std::to_string(layer) + " of " +
             std::to_string(num_layers));
  check_medusa(medusa, vocab_size);
}

}  // namespace apar
