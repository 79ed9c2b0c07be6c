// Models whose kernels may begin before the earlier ones have ended (APAR_CUDA_PDL, docs/adr/0086).
#include <doctest/doctest.h>

#include <cstdlib>

#include "common/error.h"
#include "test/cuda/cuda_model.h"
#include "test/tree_run.h"

using namespace apar;
using namespace apar::test;

namespace {

constexpr int32_t kBlocks = 24, kRows = 40;

std::unique_ptr<Model> open_cuda(const RandomModel& random, ModelFormat format, const char* overlap) {
  ::setenv("APAR_CUDA_PDL", overlap, 1);
  auto model = apar::test::open_cuda(random, format, kBlocks, kRows);
  ::unsetenv("APAR_CUDA_PDL");
  return model;
}

// Steps of up to `rows` rows each: directly, and from graphs as shapes return.
void check_overlap(const ModelConfig& config, ModelFormat format, const std::vector<int32_t>& all_rows,
                   uint32_t seed) {
  CAPTURE(std::string(to_string(format.weights)));
  const RandomModel random = make_random_model(config, seed);
  std::mt19937 seeds(seed);
  const TextTree tree = random_tree(seeds, 2, config.vocab_size);
  const auto plain = open_cuda(random, format, "off"), overlapping = open_cuda(random, format, "on");
  for (const int32_t rows : all_rows) {
    CAPTURE(rows);
    const RunOptions options = {.seed = seed, .rows_per_step = rows};
    CHECK(run_tree(*overlapping, tree, options) == run_tree(*plain, tree, options));
  }
}

// The tensor-core kernels support this shape. The sums of the last product are split.
ModelConfig aligned_config() {
  return with_all_features(tensor_core_config(
      {.hidden_size = 72, .intermediate_size = 520, .num_layers = 2, .num_heads = 2, .num_kv_heads = 1}));
}

}  // namespace

TEST_CASE("overlapping kernels have the same bits: tensor cores") {
  check_overlap(aligned_config(), {WeightFormat::bf16, KvFormat::bf16}, {3, kRows}, 51);
  check_overlap(aligned_config(), {WeightFormat::int4, KvFormat::fp8}, {9}, 52);
}

TEST_CASE("overlapping kernels have the same bits: kernels for any shape") {
  check_overlap(with_all_features(small_config()), {WeightFormat::f32, KvFormat::f32}, {9}, 53);
  check_overlap(small_config(), {WeightFormat::bf16, KvFormat::bf16}, {kRows}, 54);
}

TEST_CASE("overlapping kernels have the same bits: SwiGLU by itself") {
  ::setenv("APAR_CUDA_FUSION", "off", 1);
  check_overlap(aligned_config(), {WeightFormat::fp8, KvFormat::bf16}, {9}, 55);
  ::unsetenv("APAR_CUDA_FUSION");
}

TEST_CASE("overlapping kernels have the same bits: wgmma") {
  if (cuda::open_test_device()->info().capability != 90) {
    MESSAGE("left out: the device has no wgmma");
    return;
  }
  ::setenv("APAR_CUDA_GEMM", "wgmma", 1);
  check_overlap(aligned_config(), {WeightFormat::bf16, KvFormat::bf16}, {kRows}, 57);
  check_overlap(aligned_config(), {WeightFormat::int8, KvFormat::bf16}, {9}, 58);
  ::unsetenv("APAR_CUDA_GEMM");
}

TEST_CASE("APAR_CUDA_PDL accepts only on and off") {
  CHECK_THROWS_AS(
      open_cuda(make_random_model(small_config(), 56), {WeightFormat::bf16, KvFormat::bf16}, "yes"), Error);
  ::unsetenv("APAR_CUDA_PDL");
}
