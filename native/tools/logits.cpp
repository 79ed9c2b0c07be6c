// Prints the logits of one path, for comparison with other implementations of the same checkpoint
// (test/native).
//
// Standard input, one item per line; the caller knows the checkpoint's files:
//   shape VOCAB HIDDEN INTERMEDIATE LAYERS HEADS KV_HEADS HEAD_DIM CONTEXT EPS THETA TIED
//   dtype f32|bf16|int8|int4
//   file PATH
//   tensor NAME FILE OFFSET F32|BF16|F16 DIMS SIZE...
//   path TOKENS ID...
// Standard output: [tokens, vocab] little-endian f32.
#include <cstdio>
#include <exception>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "model/llama.h"

namespace {

using namespace apar;

struct Job {
  ModelConfig config;
  WeightTable weights;
  WeightFormat format = WeightFormat::f32;
  std::vector<int32_t> path;
};

DType parse_dtype(const std::string& name) {
  if (name == "F32") return DType::f32;
  if (name == "BF16") return DType::bf16;
  if (name == "F16") return DType::f16;
  throw Error(ErrorCode::invalid_config, "unknown dtype " + name);
}

Job read_job(std::istream& in) {
  Job job;
  for (std::string line, key; std::getline(in, line);) {
    std::istringstream words(line);
    words >> key;
    if (key == "shape") {
      ModelConfig& c = job.config;
      words >> c.vocab_size >> c.hidden_size >> c.intermediate_size >> c.num_layers >> c.num_heads >>
          c.num_kv_heads >> c.head_dim >> c.context_tokens >> c.rms_norm_eps >> c.rope_theta >>
          c.tie_word_embeddings;
    } else if (key == "dtype") {
      words >> key;
      job.format = parse_weight_format(key);
    } else if (key == "file") {
      job.weights.files.push_back(line.substr(5));
    } else if (key == "tensor") {
      TensorInfo& tensor = job.weights.tensors.emplace_back();
      size_t dims = 0;
      words >> tensor.name >> tensor.file >> tensor.offset >> key >> dims;
      tensor.dtype = parse_dtype(key);
      tensor.shape.resize(dims);
      for (int64_t& size : tensor.shape) words >> size;
    } else if (key == "path") {
      size_t tokens = 0;
      words >> tokens;
      job.path.resize(tokens);
      for (int32_t& token : job.path) words >> token;
    }
    if (words.fail()) throw Error(ErrorCode::invalid_config, "cannot read the line: " + line.substr(0, 80));
  }
  return job;
}

std::vector<float> run(const Job& job) {
  const auto rows = static_cast<int32_t>(job.path.size());
  const int32_t num_blocks = (rows + kBlockTokens - 1) / kBlockTokens;
  const auto model = open_llama(job.config, job.weights, job.format, num_blocks, rows, 2);
  std::vector<int32_t> blocks, all;
  for (int32_t i = 0; i < num_blocks; ++i) blocks.push_back(i);
  for (int32_t i = 0; i < rows; ++i) all.push_back(i);
  const std::vector<KvNodeView> nodes{{blocks, 0, rows}};
  const std::vector<int32_t> node_path{0};
  const std::vector<SequenceRows> sequences{{0, rows, 0, 1, rows}};
  std::vector<float> logits(job.path.size() * static_cast<size_t>(job.config.vocab_size));
  model->forward({job.path, all, all, sequences, nodes, node_path, all}, logits);
  return logits;
}

}  // namespace

int main() {
  try {
    const std::vector<float> logits = run(read_job(std::cin));
    return std::fwrite(logits.data(), sizeof(float), logits.size(), stdout) == logits.size() ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
