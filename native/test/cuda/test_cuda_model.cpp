// CudaOps as a device of the model: logits against the CPU's, and the same bits alone and together.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>

#include "model/llama.h"
#include "ops/cuda/cuda_ops.h"
#include "test/cuda/open_device.h"
#include "test/random_model.h"
#include "test/tree_run.h"

using namespace apar;
using namespace apar::test;

namespace {

using Logits = std::vector<std::vector<float>>;
constexpr int32_t kBlocks = 24, kRows = 70;

std::unique_ptr<Model> open_cuda(const RandomModel& random, WeightFormat format) {
  return open_llama(random.config, random.weights, format, kBlocks, kRows, [](const OpsConfig& config) {
    return std::make_unique<cuda::CudaOps>(config, cuda::open_test_device());
  });
}

// A shape that the tensor-core kernels take; nothing else about it is round.
ModelConfig aligned_config() {
  ModelConfig config = small_config();
  config.hidden_size = 72;
  config.intermediate_size = 136;
  config.num_heads = 2;
  config.num_kv_heads = 1;
  config.head_dim = 64;
  config.num_layers = 2;
  return config;
}

struct Difference {
  int rows = 0;       // computed in both runs
  int different = 0;  // of them, in any bit
  double worst = 0;   // difference over the largest logit
};

Difference compare(const Logits& a, const Logits& b, size_t vocab) {
  Difference found;
  double largest = 0, worst = 0;
  for (size_t branch = 0; branch < a.size(); ++branch) {
    for (size_t at = 0; at < a[branch].size(); at += vocab) {
      if (std::isnan(a[branch][at]) || std::isnan(b[branch][at])) continue;
      ++found.rows;
      found.different += std::memcmp(&a[branch][at], &b[branch][at], vocab * sizeof(float)) != 0;
      for (size_t i = at; i < at + vocab; ++i) {
        largest = std::max(largest, std::abs(double{a[branch][i]}));
        worst = std::max(worst, std::abs(double{a[branch][i]} - b[branch][i]));
      }
    }
  }
  found.worst = worst / largest;
  return found;
}

void check_model(const ModelConfig& config, WeightFormat format, double tolerance, uint32_t seed) {
  CAPTURE(std::string(to_string(format)));
  CAPTURE(seed);
  const RandomModel random = make_random_model(config, seed);
  std::mt19937 seeds(seed);
  const TextTree tree = random_tree(seeds, 4, config.vocab_size);
  const auto vocab = static_cast<size_t>(config.vocab_size);
  const bool cuda_only = format == WeightFormat::f16 || format == WeightFormat::fp8;
  const WeightFormat cpu_format = cuda_only ? WeightFormat::f32 : format;
  const auto cpu = open_llama(random.config, random.weights, cpu_format, kBlocks, kRows, 1);
  const Logits want = run_tree(*cpu, tree, {.seed = seed, .rows_per_step = kRows});
  const auto model = open_cuda(random, format);
  const Logits alone = run_tree(*model, tree, {.seed = seed, .rows_per_step = 1});
  const Difference to_cpu = compare(want, alone, vocab);
  CHECK(to_cpu.rows > 20);
  CHECK(to_cpu.worst < tolerance);
  for (const RunOptions& options :
       {RunOptions{seed + 1, kRows}, RunOptions{seed + 2, 33, true, true, false}}) {
    CAPTURE(options.rows_per_step);
    const Difference together = compare(alone, run_tree(*model, tree, options), vocab);
    CHECK(together.rows > 10);
    CHECK(together.different == 0);
  }
}

}  // namespace

TEST_CASE("f32, odd sizes") {
  check_model(small_config(), WeightFormat::f32, 1e-5, 1);
}

TEST_CASE("bf16, odd sizes") {
  check_model(small_config(), WeightFormat::bf16, 1e-2, 2);
}

TEST_CASE("the attention that APAR_CUDA_ATTENTION asks for has the same bits") {
  const RandomModel random = make_random_model(aligned_config(), 4);
  std::mt19937 seeds(4);
  const TextTree tree = random_tree(seeds, 4, random.config.vocab_size);
  std::vector<Logits> all;
  for (const char* const name : {"shared", "plain", "auto"}) {
    ::setenv("APAR_CUDA_ATTENTION", name, 1);
    all.push_back(
        run_tree(*open_cuda(random, WeightFormat::bf16), tree, {.seed = 4, .rows_per_step = kRows}));
  }
  ::unsetenv("APAR_CUDA_ATTENTION");
  for (const Logits& other : {all[1], all[2]}) {
    const Difference found = compare(all[0], other, random.config.vocab_size);
    CHECK(found.rows > 20);
    CHECK(found.different == 0);
  }
}

TEST_CASE("bf16 on the tensor cores") {
  check_model(aligned_config(), WeightFormat::bf16, 2e-2, 3);
}

TEST_CASE("f16 on the tensor cores") {
  check_model(aligned_config(), WeightFormat::f16, 2e-2, 4);
}

// e4m3 keeps 4 bits of a weight.
TEST_CASE("fp8 on the tensor cores") {
  check_model(aligned_config(), WeightFormat::fp8, 0.2, 5);
}
