// Compares the forward pass with an independent one in double precision, on random trees, for every
// instruction set.
#include <doctest/doctest.h>

#include <cmath>

#include "common/error.h"
#include "model/llama.h"
#include "ops/cpu/cpu_ops.h"
#include "test/naive_llama.h"
#include "test/random_model.h"
#include "test/tree_run.h"

using namespace apar;
using namespace apar::test;

namespace {

std::vector<cpu::Isa> supported_isas() {
  std::vector<cpu::Isa> isas;
  for (const cpu::Isa isa : cpu::kAllIsas)
    if (cpu::supported(isa)) isas.push_back(isa);
  return isas;
}

std::unique_ptr<Model> open_on(cpu::Isa isa, const RandomModel& random, WeightFormat format,
                               int32_t threads = 2) {
  return open_llama(random.config, random.weights, format, 60, 48, [=](const OpsConfig& config) {
    return std::make_unique<cpu::CpuOps>(config, isa, threads);
  });
}

// The largest difference of a logit from the naive model's, relative to the largest logit.
double max_relative_difference(Model& model, const NaiveLlama& naive, const TextTree& tree,
                               const RunOptions& options) {
  const auto vocab = static_cast<size_t>(model.config().vocab_size);
  const auto results = run_tree(model, tree, options);
  double worst = 0, largest = 0;
  for (size_t branch = 0; branch < tree.size(); ++branch) {
    const auto expected = naive.logits(path_tokens(tree, static_cast<int32_t>(branch)));
    for (size_t i = 0; i < results[branch].size(); ++i) {
      const double want = expected[tree[branch].inherited * vocab + i];
      const double difference = std::abs(results[branch][i] - want);
      REQUIRE(std::isfinite(difference));
      worst = std::max(worst, difference);
      largest = std::max(largest, std::abs(want));
    }
  }
  REQUIRE(largest > 1);  // with nearly equal logits the comparison would prove nothing
  return worst / largest;
}

}  // namespace

TEST_CASE("f32 logits agree with an independent double-precision Llama") {
  for (const bool tied : {false, true}) {
    ModelConfig config = small_config();
    config.tie_word_embeddings = tied;
    set_head_dim(config, config.head_dim, tied ? 500 : 10000);
    const RandomModel random = make_random_model(config, 3);
    const NaiveLlama naive(config, random.weights);
    std::mt19937 seeds(11);
    const TextTree tree = random_tree(seeds, 7, config.vocab_size);
    for (const cpu::Isa isa : supported_isas()) {
      CAPTURE(std::string(cpu::to_string(isa)));
      const auto model = open_on(isa, random, WeightFormat::f32);
      CHECK(max_relative_difference(*model, naive, tree,
                                    {.seed = 5, .rows_per_step = 20, .share_blocks = true}) < 1e-5);
    }
  }
}

TEST_CASE("bf16 logits agree with a Llama with rounded weights: only inputs are rounded, sums are f32") {
  const RandomModel random = make_random_model(small_config(), 4);
  const NaiveLlama naive(random.config, random.weights, true);
  std::mt19937 seeds(12);
  const TextTree tree = random_tree(seeds, 7, random.config.vocab_size);
  for (const cpu::Isa isa : supported_isas()) {
    CAPTURE(std::string(cpu::to_string(isa)));
    const auto model = open_on(isa, random, WeightFormat::bf16);
    // The remaining error is the rounding of activations, queries, keys and values to 8 bits (2^-9 of each);
    // it accumulates over the layers like independent noise.
    CHECK(max_relative_difference(*model, naive, tree, {.seed = 6, .rows_per_step = 20, .extra_cuts = true}) <
          2e-2);
  }
}

TEST_CASE("checkpoints in f16 and bf16 can run in f32") {
  for (const DType stored : {DType::f16, DType::bf16}) {
    const RandomModel random = make_random_model(small_config(), 5, stored);
    const NaiveLlama naive(random.config, random.weights);
    std::mt19937 seeds(13);
    const TextTree tree = random_tree(seeds, 3, random.config.vocab_size);
    const auto model = open_llama(random.config, random.weights, WeightFormat::f32, 60, 48, 1);
    CHECK(max_relative_difference(*model, naive, tree, {.rows_per_step = 48}) < 1e-5);
  }
}

TEST_CASE("logits agree for many head sizes and numbers of query heads per KV head") {
  for (const auto& [heads, kv_heads, head_dim] : {std::array{1, 1, 2},
                                                  {4, 4, 16},
                                                  {8, 2, 8},
                                                  {36, 1, 4},
                                                  {3, 3, 34},
                                                  {2, 1, 64},
                                                  {2, 2, 80},
                                                  {3, 1, 96},
                                                  {2, 1, 128}}) {
    CAPTURE(head_dim);
    ModelConfig config = small_config();
    config.num_heads = heads;
    config.num_kv_heads = kv_heads;
    set_head_dim(config, head_dim);
    const RandomModel random = make_random_model(config, 6);
    const NaiveLlama naive(config, random.weights);
    std::mt19937 seeds(14);
    const TextTree tree = random_tree(seeds, 5, config.vocab_size);
    const auto model = open_llama(config, random.weights, WeightFormat::f32, 60, 48, 2);
    CHECK(max_relative_difference(*model, naive, tree, {.rows_per_step = 48, .share_blocks = true}) < 1e-5);
    const NaiveLlama rounded(config, random.weights, true);
    const auto bf16 = open_llama(config, random.weights, WeightFormat::bf16, 60, 48, 2);
    CHECK(max_relative_difference(*bf16, rounded, tree, {.rows_per_step = 48, .share_blocks = true}) < 2e-2);
  }
}

// The naive model rounds nothing: rounded frequencies and angles (a few 2^-24) times positions up to 150.
TEST_CASE("logits agree for random combinations of what architectures do differently") {
  std::mt19937 random(21);
  const auto draw = [&](uint32_t count) { return static_cast<int32_t>(random() % count); };
  const auto isas = supported_isas();
  for (uint32_t round = 0; round < 24; ++round) {
    ModelConfig config = small_config();
    config.num_layers = 1 + draw(3);
    config.num_kv_heads = 1 + draw(3);
    config.num_heads = config.num_kv_heads * (1 + draw(3));
    set_head_dim(config, 2 + 2 * draw(20), draw(2) == 0 ? 10000 : 300);
    config.rope_frequencies.resize(1 + static_cast<size_t>(draw(config.head_dim / 2)));
    if (draw(2) == 0) config.rope_scale = 1.0f + 0.1f * static_cast<float>(draw(5));
    for (int32_t layer = 0; layer < config.num_layers; ++layer)
      if (draw(3) == 0) config.layers_without_rope.push_back(layer);
    config.biases = {draw(2) == 0, draw(2) == 0, draw(2) == 0};
    config.head_norms = draw(2) == 0;
    config.tie_word_embeddings = draw(2) == 0;
    CAPTURE(round);
    const RandomModel model = make_random_model(config, round);
    std::mt19937 seeds(round);
    const TextTree tree = random_tree(seeds, 4, config.vocab_size);
    const cpu::Isa isa = isas[round % isas.size()];
    CAPTURE(std::string(cpu::to_string(isa)));
    const RunOptions options{.seed = round, .rows_per_step = 20, .extra_cuts = true, .share_blocks = true};
    CHECK(max_relative_difference(*open_on(isa, model, WeightFormat::f32), NaiveLlama(config, model.weights),
                                  tree, options) < 1e-5);
    CHECK(max_relative_difference(*open_on(isa, model, WeightFormat::bf16),
                                  NaiveLlama(config, model.weights, true), tree, options) < 2e-2);
  }
}

TEST_CASE("the model reports its device, pool size, row limit and configuration") {
  const RandomModel random = make_random_model();
  const auto model = open_on(cpu::Isa::reference, random, WeightFormat::f32, 3);
  CHECK(model->device() == "cpu reference x3");
  CHECK(model->num_blocks() == 60);
  CHECK(model->max_rows() == 48);
  CHECK(model->config().vocab_size == random.config.vocab_size);
}
