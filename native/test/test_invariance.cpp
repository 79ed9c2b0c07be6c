// The bits of a row do not depend on the rest of the batch, on the chunks of its prompt or on where nodes
// begin (model/model.h).
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "model/llama.h"
#include "ops/cpu/cpu_ops.h"
#include "test/random_model.h"
#include "test/tree_run.h"

using namespace apar;
using namespace apar::test;

namespace {

constexpr WeightFormat kFormats[] = {WeightFormat::f32, WeightFormat::bf16, WeightFormat::int8,
                                     WeightFormat::int4};

using Logits = std::vector<std::vector<float>>;

std::unique_ptr<Model> open_on(cpu::Isa isa, const RandomModel& random, WeightFormat format,
                               int32_t threads) {
  return open_llama(random.config, random.weights, format, 96, 128, [=](const OpsConfig& config) {
    return std::make_unique<cpu::CpuOps>(config, isa, threads);
  });
}

// The number of rows that both runs computed, and how many of them differ in any bit.
std::pair<int, int> compare(const Logits& a, const Logits& b, size_t vocab) {
  int rows = 0, different = 0;
  for (size_t branch = 0; branch < a.size(); ++branch) {
    for (size_t at = 0; at < a[branch].size(); at += vocab) {
      if (std::isnan(a[branch][at]) || std::isnan(b[branch][at])) continue;
      ++rows;
      different += std::memcmp(&a[branch][at], &b[branch][at], vocab * sizeof(float)) != 0;
    }
  }
  return {rows, different};
}

void check_invariance(cpu::Isa isa, WeightFormat format, const ModelConfig& config, uint32_t seed) {
  CAPTURE(std::string(cpu::to_string(isa)));
  CAPTURE(seed);
  const RandomModel random = make_random_model(config, seed);
  std::mt19937 seeds(seed);
  const TextTree tree = random_tree(seeds, 10, config.vocab_size);
  const auto vocab = static_cast<size_t>(config.vocab_size);
  const auto serial = open_on(isa, random, format, 1);
  const Logits alone = run_tree(*serial, tree, {.seed = seed, .rows_per_step = 1});
  for (const int32_t threads : {1, 2, 3}) {
    const auto model = open_on(isa, random, format, threads);
    for (const RunOptions& options :
         {RunOptions{seed + 1, 128}, RunOptions{seed + 2, 128, true, false},
          RunOptions{seed + 3, 7, false, true}, RunOptions{seed + 4, 33, true, true, false}}) {
      CAPTURE(threads);
      CAPTURE(options.rows_per_step);
      const auto [rows, different] = compare(alone, run_tree(*model, tree, options), vocab);
      CHECK(rows > 30);
      CHECK(different == 0);
    }
  }
}

}  // namespace

TEST_CASE("a row has the same bits alone and in any batch") {
  for (const cpu::Isa isa : cpu::kAllIsas) {
    if (!cpu::supported(isa)) continue;
    for (const WeightFormat format : kFormats)
      for (uint32_t seed = 1; seed <= 2; ++seed) check_invariance(isa, format, small_config(), seed);
  }
}

TEST_CASE("the same with biases, head norms, partial rotation and a layer without rotation") {
  for (const cpu::Isa isa : cpu::kAllIsas)
    if (cpu::supported(isa))
      for (const WeightFormat format : kFormats)
        check_invariance(isa, format, with_all_features(small_config()), 3);
}

TEST_CASE("the same with sizes that are multiples of a vector and one query head per KV head") {
  ModelConfig config = small_config();
  config.hidden_size = 64;
  config.intermediate_size = 96;
  config.num_heads = config.num_kv_heads = 4;
  set_head_dim(config, 32);
  for (const cpu::Isa isa : cpu::kAllIsas)
    if (isa != cpu::Isa::reference && cpu::supported(isa))
      check_invariance(isa, WeightFormat::bf16, config, 9);
}
