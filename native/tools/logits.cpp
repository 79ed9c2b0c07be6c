// Prints the logits of one sequence of tokens, to compare other implementations of the same checkpoint
// (test/native, native/gpu/verify).
//
// Standard input: a model job (model_job.h) and the line
//   path TOKENS ID...
// Standard output: [tokens, vocab] little-endian f32.
#include <cstdio>
#include <exception>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "common/error.h"
#include "model/llama.h"
#include "tools/model_job.h"

namespace {

using namespace apar;

std::vector<int32_t> read_path(const ModelJob& job) {
  std::vector<int32_t> path;
  for (const std::string& line : job.others) {
    std::istringstream words(line);
    std::string key;
    size_t tokens = 0;
    words >> key >> tokens;
    path.resize(tokens);
    for (int32_t& token : path) words >> token;
    if (key != "path" || words.fail())
      throw Error(ErrorCode::invalid_config, "cannot read the line: " + line.substr(0, 80));
  }
  return path;
}

std::vector<float> run(const ModelJob& job) {
  const std::vector<int32_t> path = read_path(job);
  const auto rows = static_cast<int32_t>(path.size());
  const int32_t num_blocks = (rows + kBlockTokens - 1) / kBlockTokens;
  const auto model =
      open_llama(job.config, job.weights, job.format(), num_blocks, rows,
                 make_ops_on(job.device, job.threads, std::make_shared<std::string>(), job.devices));
  std::vector<int32_t> blocks, all;
  for (int32_t i = 0; i < num_blocks; ++i) blocks.push_back(i);
  for (int32_t i = 0; i < rows; ++i) all.push_back(i);
  const std::vector<KvNodeView> nodes{{blocks, 0, rows}};
  const std::vector<int32_t> node_path{0};
  const std::vector<SequenceRows> sequences{{0, rows, 0, 1, rows}};
  std::vector<float> logits(path.size() * static_cast<size_t>(job.config.vocab_size));
  model->forward({path, all, all, sequences, nodes, node_path, all}, logits);
  return logits;
}

}  // namespace

int main() {
  try {
    const std::vector<float> logits = run(apar::read_model_job(std::cin));
    return std::fwrite(logits.data(), sizeof(float), logits.size(), stdout) == logits.size() ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
