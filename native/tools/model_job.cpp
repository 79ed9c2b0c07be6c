#include "tools/model_job.h"

#include <istream>
#include <sstream>

#include "common/error.h"

namespace apar {
namespace {

void read_shape(std::istream& words, ModelConfig& c) {
  words >> c.vocab_size >> c.hidden_size >> c.intermediate_size >> c.num_layers >> c.num_heads >>
      c.num_kv_heads >> c.head_dim >> c.context_tokens >> c.rms_norm_eps >> c.tie_word_embeddings;
}

template <class Value>
std::vector<Value> read_rest(std::istream& words) {
  std::vector<Value> values;
  for (Value value; words >> value;) values.push_back(value);
  words.clear(words.eof() ? std::ios::eofbit : std::ios::failbit);
  return values;
}

void read_features(std::istream& words, ModelConfig& c) {
  for (const std::string& name : read_rest<std::string>(words)) {
    if (name == "qkv_bias")
      c.biases.qkv = true;
    else if (name == "attention_output_bias")
      c.biases.attention_output = true;
    else if (name == "mlp_bias")
      c.biases.mlp = true;
    else if (name == "head_norms")
      c.head_norms = true;
    else
      throw Error(ErrorCode::invalid_config, "unknown feature: " + name);
  }
}

void read_tensor(std::istream& words, TensorInfo& tensor) {
  std::string dtype;
  size_t dims = 0;
  words >> tensor.name >> tensor.file >> tensor.offset >> dtype >> dims;
  tensor.dtype = parse_dtype(dtype);
  tensor.shape.resize(dims);
  for (int64_t& size : tensor.shape) words >> size;
  if (words.fail()) return;
  words >> tensor.interleaved_heads;
  if (words.fail()) {
    tensor.interleaved_heads = 0;
    words.clear(words.eof() ? std::ios::eofbit : std::ios::failbit);
  }
}

}  // namespace

ModelJob read_model_job(std::istream& in) {
  ModelJob job;
  for (std::string line, key, value; std::getline(in, line);) {
    std::istringstream words(line);
    words >> key;
    if (key == "shape") {
      read_shape(words, job.config);
    } else if (key == "rope") {
      words >> job.config.rope_scale;
      job.config.rope_frequencies = read_rest<float>(words);
    } else if (key == "layers_without_rope") {
      job.config.layers_without_rope = read_rest<int32_t>(words);
    } else if (key == "features") {
      read_features(words, job.config);
    } else if (key == "dtype") {
      words >> value;
      job.dtype = parse_weight_format(value);
    } else if (key == "kv_cache_dtype") {
      words >> job.kv_cache_dtype;
    } else if (key == "device") {
      words >> value;
      job.device = parse_device(value);
    } else if (key == "devices") {
      job.devices = read_rest<int32_t>(words);
    } else if (key == "threads") {
      words >> job.threads;
    } else if (key == "file") {
      job.weights.files.push_back(line.substr(5));
    } else if (key == "tensor") {
      read_tensor(words, job.weights.tensors.emplace_back());
    } else {
      job.others.push_back(line);
    }
    if (words.fail()) throw Error(ErrorCode::invalid_config, "cannot read the line: " + line.substr(0, 80));
  }
  return job;
}

}  // namespace apar
