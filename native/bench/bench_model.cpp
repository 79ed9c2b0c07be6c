// Times the forward pass of a Llama with random bf16 weights and prints one JSON line with the time of each
// operation:
//   build/release/bench/bench_model 15M|110M|1.1B f32|bf16|int8|int4 CASE [seconds] [threads]
// CASE: single (one branch that decodes after 8 tokens), prefill (512 tokens at once), or BRANCHESxSHARED
// such as 8x500 (branches that decode after one shared prompt). The weights stay in the temporary folder for
// later runs.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <vector>

#include "bench/clock.h"
#include "bench/profiled_ops.h"
#include "bench/random_bits.h"
#include "model/llama.h"
#include "ops/cpu/cpu_ops.h"

using namespace apar;
using bench::now_s;

namespace {

ModelConfig shape_of(const std::string& name) {
  ModelConfig shape = {.vocab_size = 32000, .context_tokens = 4096, .tie_word_embeddings = true};
  const auto set = [&](int32_t hidden, int32_t inner, int32_t layers, int32_t heads, int32_t kv_heads) {
    shape.hidden_size = hidden;
    shape.intermediate_size = inner;
    shape.num_layers = layers;
    shape.num_heads = heads;
    shape.num_kv_heads = kv_heads;
    shape.head_dim = hidden / heads;
    for (int32_t i = 0; i < shape.head_dim / 2; ++i)
      shape.rope_frequencies.push_back(std::pow(10000.0f, -2.0f * static_cast<float>(i) / shape.head_dim));
  };
  if (name == "15M") {
    set(288, 768, 6, 6, 6);
  } else if (name == "110M") {
    set(768, 2048, 12, 12, 12);
  } else {
    set(2048, 5632, 22, 32, 4);
    shape.tie_word_embeddings = false;
  }
  return shape;
}

void write_random(const std::string& path, int64_t count) {
  std::vector<uint16_t> values(size_t{1} << 20);
  bench::fill_random_bf16(values);
  std::ofstream out(path + ".part", std::ios::binary);
  for (int64_t left = count; left > 0; left -= static_cast<int64_t>(values.size()))
    out.write(reinterpret_cast<const char*>(values.data()),
              std::min<int64_t>(left, static_cast<int64_t>(values.size())) * 2);
  out.close();
  std::filesystem::rename(path + ".part", path);
}

WeightTable random_weights(const ModelConfig& config, const std::string& name) {
  const auto folder = std::filesystem::temp_directory_path() / "apar-bench-model";
  std::filesystem::create_directories(folder);
  WeightTable table;
  table.files.push_back((folder / (name + ".bin")).string());
  uint64_t offset = 0;
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  const auto tensor = [&](const std::string& tensor_name, int64_t rows, int64_t cols) {
    std::vector<int64_t> shape = rows > 0 ? std::vector<int64_t>{rows, cols} : std::vector<int64_t>{cols};
    table.tensors.push_back({tensor_name + ".weight", 0, offset, DType::bf16, std::move(shape)});
    offset += static_cast<uint64_t>(std::max<int64_t>(rows, 1) * cols) * 2;
  };
  tensor("model.embed_tokens", config.vocab_size, hidden);
  for (int32_t index = 0; index < config.num_layers; ++index) {
    const std::string layer = "model.layers." + std::to_string(index) + ".";
    tensor(layer + "input_layernorm", 0, hidden);
    tensor(layer + "self_attn.q_proj", hidden, hidden);
    tensor(layer + "self_attn.k_proj", config.kv_width(), hidden);
    tensor(layer + "self_attn.v_proj", config.kv_width(), hidden);
    tensor(layer + "self_attn.o_proj", hidden, hidden);
    tensor(layer + "post_attention_layernorm", 0, hidden);
    tensor(layer + "mlp.gate_proj", inner, hidden);
    tensor(layer + "mlp.up_proj", inner, hidden);
    tensor(layer + "mlp.down_proj", hidden, inner);
  }
  tensor("model.norm", 0, hidden);
  if (!config.tie_word_embeddings) tensor("lm_head", config.vocab_size, hidden);
  if (!std::filesystem::exists(table.files[0]))
    write_random(table.files[0], static_cast<int64_t>(offset / 2));
  return table;
}

// A prompt in node 0 and a node of its own for each branch below it. Nodes get their blocks in ascending
// order.
class Tree {
 public:
  Tree(Model& model, int32_t shared, int32_t branches) : model_(model), shared_(shared) {
    logits_.resize(static_cast<size_t>(branches) * model.config().vocab_size);
    for (int32_t branch = 0; branch <= branches; ++branch) {
      const int32_t tokens = branch == 0 ? shared : kOwnTokens;
      auto& blocks = blocks_.emplace_back();
      for (int32_t i = 0; i * kBlockTokens < tokens; ++i) blocks.push_back(next_block_++);
    }
  }

  static constexpr int32_t kOwnTokens = 64;

  void prefill() {
    std::vector<int32_t> tokens(shared_), positions(shared_), slots(shared_);
    for (int32_t i = 0; i < shared_; ++i) {
      tokens[i] = 5 + i * 7 % 1000;
      positions[i] = i;
      slots[i] = blocks_[0][i / kBlockTokens] * kBlockTokens + i % kBlockTokens;
    }
    const KvNodeView node = {blocks_[0], 0, shared_};
    const SequenceRows rows = {0, shared_, 0, 1, shared_};
    const int32_t path = 0, wanted = shared_ - 1;
    model_.forward({tokens, positions, slots, {&rows, 1}, {&node, 1}, {&path, 1}, {&wanted, 1}},
                   std::span(logits_).first(model_.config().vocab_size));
  }

  // Computes one token of every branch, each of which already has `done` tokens of its own.
  void decode(int32_t done) {
    const auto branches = static_cast<int32_t>(blocks_.size()) - 1;
    std::vector<int32_t> tokens(branches, 17 + done), positions(branches, shared_ + done), slots, path, all;
    std::vector<SequenceRows> rows;
    std::vector<KvNodeView> nodes = {{blocks_[0], 0, shared_}};
    for (int32_t branch = 1; branch <= branches; ++branch) {
      slots.push_back(blocks_[branch][done / kBlockTokens] * kBlockTokens + done % kBlockTokens);
      nodes.push_back({blocks_[branch], 0, done + 1});
      rows.push_back({branch - 1, 1, static_cast<int32_t>(path.size()), 2, shared_ + done + 1});
      path.insert(path.end(), {0, branch});
      all.push_back(branch - 1);
    }
    model_.forward({tokens, positions, slots, rows, nodes, path, all}, logits_);
  }

 private:
  Model& model_;
  int32_t shared_, next_block_ = 0;
  std::vector<std::vector<int32_t>> blocks_;
  std::vector<float> logits_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr,
                 "bench_model 15M|110M|1.1B f32|bf16|int8|int4 single|prefill|BxS [seconds] [threads]\n");
    return 2;
  }
  const std::string name = argv[1], test = argv[3];
  const WeightFormat format = parse_weight_format(argv[2]);
  const double seconds = argc > 4 ? std::atof(argv[4]) : 2;
  const int32_t threads = argc > 5 ? std::atoi(argv[5]) : 2;
  const bool prefill = test == "prefill";
  const size_t cross = test.find('x');
  const int32_t branches = cross == std::string::npos ? 1 : std::atoi(test.c_str());
  const int32_t shared = prefill ? 512 : cross == std::string::npos ? 8 : std::atoi(test.c_str() + cross + 1);

  const ModelConfig config = shape_of(name);
  std::map<std::string, double> profile;
  const double opened = now_s();
  const int32_t blocks = (shared + branches * Tree::kOwnTokens) / kBlockTokens + branches + 2;
  const auto model = open_llama(config, random_weights(config, name), format, blocks,
                                std::max(shared, branches), [&](const OpsConfig& ops) {
                                  auto cpu = std::make_unique<cpu::CpuOps>(ops, cpu::select_isa(), threads);
                                  return std::make_unique<bench::ProfiledOps>(std::move(cpu), profile);
                                });
  const double open_seconds = now_s() - opened;
  Tree tree(*model, shared, branches);
  tree.prefill();
  std::vector<double> samples;
  profile.clear();
  int32_t steps = 0;
  for (const double end = now_s() + seconds; samples.size() < 3 || now_s() < end; ++steps) {
    const double start = now_s();
    if (prefill)
      tree.prefill();
    else
      tree.decode(steps % Tree::kOwnTokens);
    samples.push_back(now_s() - start);
  }
  std::sort(samples.begin(), samples.end());
  const double median = samples[samples.size() / 2];
  std::printf("{\"model\":\"%s\",\"format\":\"%s\",\"case\":\"%s\",\"device\":\"%s\",\"open_s\":%.2f,",
              name.c_str(), to_string(format), test.c_str(), model->device().c_str(), open_seconds);
  std::printf("\"tokens_per_s\":%.1f,\"step_us\":%.0f,\"p5_us\":%.0f,\"mean_us\":{",
              (prefill ? shared : branches) / median, median * 1e6, samples[samples.size() / 20] * 1e6);
  const char* comma = "";
  for (const auto& [op, total] : profile) {
    std::printf("%s\"%s\":%.0f", comma, op.c_str(), total / steps * 1e6);
    comma = ",";
  }
  std::printf("}}\n");
}
