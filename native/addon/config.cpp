#include "addon/config.h"

#include <algorithm>
#include <string>

#include "common/error.h"

namespace apar {
namespace {

[[noreturn]] void wrong_type(const char* field) {
  throw Error(ErrorCode::invalid_config, std::string(field) + " has the wrong type");
}

int32_t get_int(const Napi::Object& object, const char* field) {
  const Napi::Value value = object.Get(field);
  if (!value.IsNumber()) wrong_type(field);
  return value.As<Napi::Number>().Int32Value();
}
int64_t get_int64(const Napi::Object& object, const char* field) {
  const Napi::Value value = object.Get(field);
  if (!value.IsNumber()) wrong_type(field);
  return value.As<Napi::Number>().Int64Value();
}
float get_float(const Napi::Object& object, const char* field) {
  const Napi::Value value = object.Get(field);
  if (!value.IsNumber()) wrong_type(field);
  return value.As<Napi::Number>().FloatValue();
}
bool get_bool(const Napi::Object& object, const char* field) {
  const Napi::Value value = object.Get(field);
  if (!value.IsBoolean()) wrong_type(field);
  return value.As<Napi::Boolean>().Value();
}
std::string get_string(const Napi::Object& object, const char* field) {
  const Napi::Value value = object.Get(field);
  if (!value.IsString()) wrong_type(field);
  return value.As<Napi::String>().Utf8Value();
}
Napi::Object get_object(const Napi::Object& object, const char* field) {
  const Napi::Value value = object.Get(field);
  if (!value.IsObject()) wrong_type(field);
  return value.As<Napi::Object>();
}
Napi::Array get_array(const Napi::Object& object, const char* field) {
  const Napi::Value value = object.Get(field);
  if (!value.IsArray()) wrong_type(field);
  return value.As<Napi::Array>();
}
std::vector<Napi::Number> get_numbers(const Napi::Object& object, const char* field) {
  const Napi::Array array = get_array(object, field);
  std::vector<Napi::Number> values;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Value value = array.Get(i);
    if (!value.IsNumber()) wrong_type(field);
    values.push_back(value.As<Napi::Number>());
  }
  return values;
}
std::vector<int32_t> get_ints(const Napi::Object& object, const char* field) {
  std::vector<int32_t> values;
  for (const Napi::Number& value : get_numbers(object, field)) values.push_back(value.Int32Value());
  return values;
}
std::vector<float> get_floats(const Napi::Object& object, const char* field) {
  std::vector<float> values;
  for (const Napi::Number& value : get_numbers(object, field)) values.push_back(value.FloatValue());
  return values;
}
std::vector<int32_t> get_ids(const Napi::Object& object, const char* field) {
  const Napi::Value value = object.Get(field);
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array)
    wrong_type(field);
  const auto array = value.As<Napi::Int32Array>();
  return {array.Data(), array.Data() + array.ElementLength()};
}

std::vector<std::string> get_strings(const Napi::Object& object, const char* field) {
  const Napi::Array array = get_array(object, field);
  std::vector<std::string> values;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Value value = array.Get(i);
    if (!value.IsString()) wrong_type(field);
    values.push_back(value.As<Napi::String>().Utf8Value());
  }
  return values;
}

PolicyKind to_policy(const std::string& name) {
  if (name == "eager") return PolicyKind::eager;
  if (name == "capped") return PolicyKind::capped;
  if (name == "serial") return PolicyKind::serial;
  if (name == "deadline") return PolicyKind::deadline;
  throw Error(ErrorCode::invalid_config, "unknown policy " + name);
}

// `auto` if it is missing.
Speculation get_speculation(const Napi::Object& object) {
  if (!object.Has("speculation")) return Speculation::automatic;
  const std::string name = get_string(object, "speculation");
  if (name == "off") return Speculation::off;
  if (name == "auto") return Speculation::automatic;
  if (name == "medusa") return Speculation::heads;
  if (name == "ngram") return Speculation::ngram;
  throw Error(ErrorCode::invalid_config, "unknown speculation " + name);
}

std::vector<std::pair<int32_t, float>> read_bias(const Napi::Object& bias) {
  const std::vector<int32_t> tokens = get_ids(bias, "tokens");
  const Napi::Value value = bias.Get("values");
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_float32_array)
    wrong_type("values");
  const auto values = value.As<Napi::Float32Array>();
  if (values.ElementLength() != tokens.size()) wrong_type("values");
  std::vector<std::pair<int32_t, float>> pairs;
  for (size_t i = 0; i < tokens.size(); ++i) pairs.emplace_back(tokens[i], values[i]);
  return pairs;
}

std::vector<RestoredBranch> read_branches(const Napi::Array& branches) {
  std::vector<RestoredBranch> restored;
  for (uint32_t i = 0; i < branches.Length(); ++i) {
    const Napi::Value value = branches.Get(i);
    if (!value.IsObject()) wrong_type("branches");
    const auto entry = value.As<Napi::Object>();
    restored.push_back({get_int(entry, "id"), get_int(entry, "parent"), get_int(entry, "forkPosition"),
                        get_ids(entry, "tokens"), static_cast<FinishReason>(get_int(entry, "ended"))});
  }
  return restored;
}

std::vector<ForcedBranch> read_forced(const Napi::Array& branches) {
  std::vector<ForcedBranch> forced;
  for (uint32_t i = 0; i < branches.Length(); ++i) {
    const Napi::Value value = branches.Get(i);
    if (!value.IsObject()) wrong_type("forced");
    const auto entry = value.As<Napi::Object>();
    forced.push_back({get_int(entry, "parent"), get_ids(entry, "tokens")});
  }
  return forced;
}

ModelConfig read_model(const Napi::Object& shape) {
  ModelConfig model;
  model.vocab_size = get_int(shape, "vocabSize");
  model.hidden_size = get_int(shape, "hiddenSize");
  model.intermediate_size = get_int(shape, "intermediateSize");
  model.num_layers = get_int(shape, "numLayers");
  model.num_heads = get_int(shape, "numHeads");
  model.num_kv_heads = get_int(shape, "numKvHeads");
  model.head_dim = get_int(shape, "headDim");
  model.context_tokens = get_int(shape, "contextTokens");
  model.rms_norm_eps = get_float(shape, "rmsNormEps");
  const Napi::Object rope = get_object(shape, "rope"), biases = get_object(shape, "biases");
  model.rope_frequencies = get_floats(rope, "frequencies");
  model.rope_scale = get_float(rope, "scale");
  model.layers_without_rope = get_ints(shape, "layersWithoutRope");
  model.biases = {get_bool(biases, "qkv"), get_bool(biases, "attentionOutput"), get_bool(biases, "mlp")};
  model.head_norms = get_bool(shape, "headNorms");
  model.tie_word_embeddings = get_bool(shape, "tieWordEmbeddings");
  return model;
}

QuantisedInfo read_quantised(const Napi::Object& entry) {
  QuantisedInfo info;
  info.block_outputs = get_int64(entry, "blockOutputs");
  info.block_inputs = get_int64(entry, "blockInputs");
  info.scales = get_string(entry, "scales");
  if (entry.Has("zeros")) info.zeros = get_string(entry, "zeros");
  if (entry.Has("groups")) info.groups = get_string(entry, "groups");
  info.zero_offset = get_int(entry, "zeroOffset");
  return info;
}

MedusaConfig read_medusa(const Napi::Object& shape) {
  return {.num_heads = get_int(shape, "numHeads"),
          .num_layers = get_int(shape, "numLayers"),
          .shares_lm_head = get_bool(shape, "sharesLmHead"),
          .vocab_size = get_int(shape, "vocabSize"),
          .reads_next_token = get_bool(shape, "readsNextToken")};
}

WeightTable read_weights(const Napi::Object& weights) {
  WeightTable table;
  const Napi::Array files = get_array(weights, "files");
  for (uint32_t i = 0; i < files.Length(); ++i) {
    const Napi::Value path = files.Get(i);
    if (!path.IsString()) wrong_type("files");
    table.files.push_back(path.As<Napi::String>().Utf8Value());
  }
  const Napi::Array tensors = get_array(weights, "tensors");
  for (uint32_t i = 0; i < tensors.Length(); ++i) {
    const Napi::Value value = tensors.Get(i);
    if (!value.IsObject()) wrong_type("tensors");
    const auto entry = value.As<Napi::Object>();
    TensorInfo& tensor = table.tensors.emplace_back();
    tensor.name = get_string(entry, "name");
    tensor.file = get_int(entry, "file");
    const int64_t offset = get_int64(entry, "offset");
    if (offset < 0) throw Error(ErrorCode::invalid_weights, tensor.name + ": negative offset");
    tensor.offset = static_cast<uint64_t>(offset);
    tensor.dtype = parse_dtype(get_string(entry, "dtype"));
    const Napi::Array shape = get_array(entry, "shape");
    for (uint32_t d = 0; d < shape.Length(); ++d) {
      const Napi::Value size = shape.Get(d);
      if (!size.IsNumber()) wrong_type("shape");
      tensor.shape.push_back(size.As<Napi::Number>().Int64Value());
    }
    if (entry.Has("interleavedHeads")) tensor.interleaved_heads = get_int(entry, "interleavedHeads");
    if (entry.Has("quantised")) tensor.quantised = read_quantised(get_object(entry, "quantised"));
    if (entry.Has("lora")) {
      const Napi::Object lora = get_object(entry, "lora");
      tensor.lora = {get_float(lora, "scale"), get_bool(lora, "transposed")};
    }
    if (entry.Has("replacedRows")) tensor.replaced_rows = get_ints(entry, "replacedRows");
  }
  return table;
}

}  // namespace

TokenText read_text(const Napi::Object& text) {
  const Napi::Value value = text.Get("bytes");
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    wrong_type("bytes");
  const auto bytes = value.As<Napi::Uint8Array>();
  TokenText table;
  table.bytes.assign(bytes.Data(), bytes.Data() + bytes.ElementLength());
  for (const int32_t offset : get_ids(text, "offsets"))
    table.offsets.push_back(static_cast<uint32_t>(offset));
  table.markers = get_ids(text, "markers");
  table.drops_leading_space = get_bool(text, "dropsLeadingSpace");
  table.mends_joints = get_bool(text, "mendsJoints");
  return table;
}

OpenConfig read_config(const Napi::Object& config) {
  OpenConfig open;
  open.model = read_model(get_object(config, "model"));
  if (config.Has("medusa")) open.model.medusa = read_medusa(get_object(config, "medusa"));
  open.weights = read_weights(get_object(config, "weights"));
  const Napi::Object tokens = get_object(config, "tokens");
  open.engine.decoder.tokens.fork = get_int(tokens, "fork");
  open.engine.decoder.tokens.child = get_int(tokens, "child");
  open.engine.decoder.tokens.eos = get_ints(tokens, "eos");
  open.engine.decoder.max_step_tokens = get_int(config, "maxStepTokens");
  open.engine.decoder.max_branches = get_int(config, "maxBranches");
  open.engine.max_requests = get_int(config, "maxRequests");
  open.engine.decoder.prefix_cache = get_bool(config, "prefixCache");
  open.engine.decoder.watermark = get_float(config, "watermark");
  open.engine.decoder.policy = to_policy(get_string(config, "policy"));
  open.engine.decoder.deadlines = {get_float(config, "tokenDeadlineMs") / 1000,
                                   get_float(config, "firstTokenDeadlineMs") / 1000};
  open.engine.decoder.speculation = get_speculation(config);
  open.format = parse_model_format(parse_weight_format(get_string(config, "dtype")),
                                   get_string(config, "kvCacheDtype"));
  open.device = parse_device(get_string(config, "device"));
  open.devices = get_ints(config, "devices");
  open.threads = get_int(config, "threads");
  open.num_blocks = get_int(config, "numBlocks");
  open.pool.max_blocks = open.num_blocks;
  open.pool.min_blocks = get_int(config, "minBlocks");
  open.pool.kv_bytes = static_cast<uint64_t>(std::max<int64_t>(0, get_int64(config, "kvCacheBytes")));
  open.pool.fraction = get_float(config, "memoryFraction");
  open.pool.reserved_bytes = static_cast<uint64_t>(std::max<int64_t>(0, get_int64(config, "reservedBytes")));
  return open;
}

RequestParams read_request(const Napi::Object& request) {
  RequestParams params;
  params.id = get_int(request, "id");
  params.prompt = get_ids(request, "prompt");
  params.max_tokens = get_int(request, "maxTokens");
  params.max_branches = get_int(request, "maxBranches");
  params.max_depth = get_int(request, "maxDepth");
  params.stop_tokens = get_ids(request, "stopTokens");
  params.stop = get_strings(request, "stop");
  params.stop_scope =
      get_string(request, "stopScope") == "document" ? StopScope::document : StopScope::branch;
  params.max_branch_tokens = get_int(request, "maxBranchTokens");
  params.logprobs = get_int(request, "logprobs");
  params.prompt_logprobs = get_int(request, "promptLogprobs");
  params.min_tokens = get_int(request, "minTokens");
  params.ignore_eos = get_bool(request, "ignoreEos");
  params.logit_bias = read_bias(get_object(request, "logitBias"));
  params.branches = read_branches(get_array(request, "branches"));
  params.forced = read_forced(get_array(request, "forced"));
  if (const Napi::Value grammar = request.Get("grammar"); !grammar.IsUndefined()) {
    if (!grammar.IsExternal()) wrong_type("grammar");
    params.grammar = *grammar.As<Napi::External<GrammarHandle>>().Data();
  }
  params.speculation = get_speculation(request);
  params.trace = get_bool(request, "trace");
  const Napi::Object tenant = get_object(request, "tenant");
  params.tenant = {get_int(tenant, "id"), get_float(tenant, "weight"), get_int(tenant, "priority")};
  params.sampling.temperature = get_float(request, "temperature");
  params.sampling.top_p = get_float(request, "topP");
  params.sampling.top_k = get_int(request, "topK");
  params.sampling.min_p = get_float(request, "minP");
  params.sampling.repetition_penalty = get_float(request, "repetitionPenalty");
  params.sampling.frequency_penalty = get_float(request, "frequencyPenalty");
  params.sampling.presence_penalty = get_float(request, "presencePenalty");
  params.sampling.unpenalised_texts = get_strings(request, "unpenalised");
  params.sampling.seed = static_cast<uint32_t>(get_int64(request, "seed"));
  const Napi::Object dry = get_object(request, "dry");
  params.sampling.dry.multiplier = get_float(dry, "multiplier");
  params.sampling.dry.base = get_float(dry, "base");
  params.sampling.dry.allowed_length = get_int(dry, "allowedLength");
  params.sampling.dry.penalty_last_n = get_int(dry, "penaltyLastN");
  params.sampling.dry.sequence_breakers = get_strings(dry, "sequenceBreakers");
  return params;
}

}  // namespace apar
