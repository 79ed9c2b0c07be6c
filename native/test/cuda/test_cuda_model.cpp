// Whole models on CudaOps: logits against those of the CPU, and the same bits for a row alone and with other
// rows.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <span>

#include "common/error.h"
#include "test/coded_model.h"
#include "test/cuda/cuda_model.h"
#include "test/cuda/logit_difference.h"
#include "test/cuda/mismatches.h"
#include "test/tree_run.h"

using namespace apar;
using namespace apar::test;

namespace {

constexpr int32_t kBlocks = 24, kRows = 70;

std::unique_ptr<Model> open_cuda(const RandomModel& random, ModelFormat format) {
  return apar::test::open_cuda(random, format, kBlocks, kRows);
}

// The tensor-core kernels support this shape; all sizes but the head size are unaligned.
ModelConfig aligned_config() {
  return tensor_core_config(
      {.hidden_size = 72, .intermediate_size = 136, .num_layers = 2, .num_heads = 2, .num_kv_heads = 1});
}

// Prints where two runs differ by more than `allowed` of the largest logit, or in any bit if `allowed` is 0.
void dump(const std::string& what, const Logits& got, const Logits& want, size_t vocab, Computed computed,
          double allowed) {
  double largest = 0;
  for (const auto& branch : want)
    for (const float logit : branch) largest = std::max(largest, std::abs(double{logit}));
  Mismatches wrong(what, 1, cuda::kTileOuts);
  for_each_row(got, want, vocab, computed,
               [&](int32_t row, std::span<const float> is, std::span<const float> expected) {
                 for (size_t i = 0; i < vocab; ++i) {
                   if (allowed > 0)
                     wrong.compare(row, static_cast<int32_t>(i), is[i], expected[i], allowed * largest);
                   else
                     wrong.same(row, static_cast<int32_t>(i), is[i], expected[i]);
                 }
               });
  wrong.check();
}

// Checks that rows which are computed together, in other chunks and over other nodes, have the same bits as
// alone.
void check_together(Model& model, const TextTree& tree, const Logits& alone, uint32_t seed) {
  for (const RunOptions& options :
       {RunOptions{seed + 1, kRows}, RunOptions{seed + 2, 33, true, true, false}}) {
    CAPTURE(options.rows_per_step);
    const Logits logits = run_tree(model, tree, options);
    const Computed computed = options.all_logits ? Computed::all : Computed::some;
    const LogitDifference together = compare(logits, alone, model.config().vocab_size, computed);
    CHECK(together.rows > 10);
    CHECK(together.different == 0);
    if (together.different > 0)
      dump("logits of rows together, up to " + std::to_string(options.rows_per_step) + ", against rows alone",
           logits, alone, model.config().vocab_size, computed, 0);
  }
}

// `reference` has the weights that the CPU computes with.
void check_model(const RandomModel& random, const RandomModel& reference, WeightFormat format,
                 double tolerance, uint32_t seed) {
  const ModelConfig& config = random.config;
  CAPTURE(std::string(to_string(format)));
  CAPTURE(seed);
  std::mt19937 seeds(seed);
  const TextTree tree = random_tree(seeds, 4, config.vocab_size);
  const auto vocab = static_cast<size_t>(config.vocab_size);
  const WeightFormat cpu_format = is_for_cuda(format) ? WeightFormat::f32 : format;
  const auto cpu = open_llama(random.config, reference.weights, cpu_format, kBlocks, kRows, 1);
  const Logits want = run_tree(*cpu, tree, {.seed = seed, .rows_per_step = kRows});
  const auto model = open_cuda(random, format);
  const Logits alone = run_tree(*model, tree, {.seed = seed, .rows_per_step = 1});
  const LogitDifference to_cpu = compare(alone, want, vocab);
  CHECK(to_cpu.rows > 20);
  CHECK(to_cpu.worst < tolerance);
  if (!(to_cpu.worst < tolerance))
    dump(std::string("logits, ") + to_string(format) + ", against the CPU's", alone, want, vocab,
         Computed::all, tolerance);
  check_together(*model, tree, alone, seed);
}

void check_model(const ModelConfig& config, WeightFormat format, double tolerance, uint32_t seed) {
  const RandomModel random = make_random_model(config, seed);
  check_model(random, random, format, tolerance, seed);
}

// A decode step of two branches of one prompt. `salt` changes its tokens.
struct ForkedStep {
  static constexpr int32_t kPrompt = 20;
  std::vector<int32_t> tokens, positions{kPrompt, kPrompt}, slots{2 * kBlockTokens, 3 * kBlockTokens};
  std::vector<int32_t> prompt_blocks{0, 1}, first_block{2}, second_block{3}, path{0, 1, 0, 2},
      logit_rows{0, 1};
  std::vector<KvNodeView> nodes{{prompt_blocks, 0, kPrompt}, {first_block, 0, 1}, {second_block, 0, 1}};
  std::vector<SequenceRows> sequences{{0, 1, 0, 2, kPrompt + 1}, {1, 1, 2, 2, kPrompt + 1}};

  explicit ForkedStep(int32_t salt) : tokens{5 + salt, 9 + salt} {}
  StepBatch batch() const { return {tokens, positions, slots, sequences, nodes, path, logit_rows}; }
};

void prefill(Model& model) {
  std::vector<int32_t> tokens, rows;
  for (int32_t i = 0; i < ForkedStep::kPrompt; ++i) tokens.push_back(3 + i), rows.push_back(i);
  const std::vector<int32_t> blocks{0, 1}, path{0};
  const std::vector<KvNodeView> nodes{{blocks, 0, ForkedStep::kPrompt}};
  const std::vector<SequenceRows> sequences{{0, ForkedStep::kPrompt, 0, 1, ForkedStep::kPrompt}};
  model.forward({tokens, rows, rows, sequences, nodes, path, {}}, {});
}

std::vector<float> step(Model& model, int32_t salt) {
  std::vector<float> logits(2 * static_cast<size_t>(model.config().vocab_size));
  const ForkedStep forked(salt);
  model.forward(forked.batch(), logits);
  return logits;
}

}  // namespace

// Fails if a graph contains a value that it should read in each step (a token, a length, an address).
TEST_CASE("direct, captured and replayed steps have the same bits as steps without graphs") {
  for (const WeightFormat format : {WeightFormat::bf16, WeightFormat::f32, WeightFormat::int4}) {
    const RandomModel random = make_random_model(aligned_config(), 8);
    ::setenv("APAR_CUDA_GRAPHS", "off", 1);
    const auto plain = open_cuda(random, format);
    ::unsetenv("APAR_CUDA_GRAPHS");
    prefill(*plain);
    const std::vector<float> want[] = {step(*plain, 0), step(*plain, 1)};
    CHECK(want[0] != want[1]);
    const auto capturing = open_cuda(random, format);
    prefill(*capturing);
    // The first step of a shape runs directly, the second is captured, and later ones are replayed.
    const std::pair<const char*, int32_t> steps[] = {{"direct", 0},   {"captured", 1}, {"replayed", 0},
                                                     {"replayed", 1}, {"replayed", 1}, {"replayed", 0}};
    for (const auto& [how, salt] : steps) {
      Mismatches wrong(std::string("logits of a ") + how + " step, " + to_string(format), 1, cuda::kTileOuts);
      wrong.same(step(*capturing, salt), want[salt], random.config.vocab_size);
      CHECK(wrong.check());
    }
    for (const int32_t salt : {0, 1, 0}) CHECK(step(*plain, salt) == want[salt]);
  }
}

TEST_CASE("APAR_CUDA_GRAPHS and APAR_CUDA_FUSION accept only on and off") {
  for (const char* const name : {"APAR_CUDA_GRAPHS", "APAR_CUDA_FUSION"}) {
    ::setenv(name, "sometimes", 1);
    CHECK_THROWS_AS(open_cuda(make_random_model(aligned_config(), 8), WeightFormat::bf16), Error);
    ::unsetenv(name);
  }
}

TEST_CASE("a NaN never counts as equal") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Logits right = {{1, 2, 3, 4}};
  CHECK(compare(right, right, 2).worst == 0);
  for (const Logits& wrong : {Logits{{nan, nan, 3, 4}}, Logits{{1, nan, 3, 4}}, Logits{{1, 2, 3, nan}}}) {
    CHECK(std::isinf(compare(wrong, right, 2).worst));
    CHECK(compare(wrong, right, 2).different == 1);
  }
  CHECK(compare({{nan, nan, 3, 4}}, right, 2, Computed::some).rows == 1);
}

TEST_CASE("f32, odd sizes") {
  check_model(small_config(), WeightFormat::f32, 1e-5, 1);
}

TEST_CASE("bf16, odd sizes") {
  check_model(small_config(), WeightFormat::bf16, 1e-2, 2);
}

// One layer with and one without rotation; f32 runs the plain products, bf16 and int8 the packed ones.
TEST_CASE("biases, head norms, partial rotation and a layer without rotation") {
  check_model(with_all_features(small_config()), WeightFormat::f32, 1e-5, 7);
  check_model(with_all_features(aligned_config()), WeightFormat::bf16, 2e-2, 8);
}

TEST_CASE("every value of APAR_CUDA_ATTENTION gives the same bits") {
  const RandomModel random = make_random_model(aligned_config(), 4);
  std::mt19937 seeds(4);
  const TextTree tree = random_tree(seeds, 4, random.config.vocab_size);
  for (const KvFormat kv : {KvFormat::bf16, KvFormat::fp8}) {
    std::vector<Logits> all;
    for (const char* const name : {"shared", "plain", "auto"}) {
      ::setenv("APAR_CUDA_ATTENTION", name, 1);
      const auto model = open_cuda(random, {WeightFormat::bf16, kv});
      all.push_back(run_tree(*model, tree, {.seed = 4, .rows_per_step = kRows}));
    }
    ::unsetenv("APAR_CUDA_ATTENTION");
    for (const Logits& other : {all[1], all[2]}) {
      const LogitDifference found = compare(other, all[0], random.config.vocab_size);
      CHECK(found.rows > 20);
      CHECK(found.different == 0);
    }
  }
}

// Intermediate sizes of whole tiles, of no whole tile, and one that the layer after gate and up cannot be
// packed with.
TEST_CASE("every value of APAR_CUDA_FUSION gives the same bits") {
  for (const auto& [inner, format] : {std::pair(128, WeightFormat::int8),
                                      {136, WeightFormat::bf16},
                                      {200, WeightFormat::fp8},
                                      {131, WeightFormat::bf16}}) {
    CAPTURE(inner);
    const ModelConfig config = with_all_features(tensor_core_config(
        {.hidden_size = 72, .intermediate_size = inner, .num_layers = 2, .num_heads = 2, .num_kv_heads = 1}));
    const RandomModel random = make_random_model(config, 9);
    std::mt19937 seeds(9);
    const TextTree tree = random_tree(seeds, 4, config.vocab_size);
    std::vector<Logits> all;
    for (const char* const name : {"off", "on"}) {
      ::setenv("APAR_CUDA_FUSION", name, 1);
      const auto model = open_cuda(random, format);
      all.push_back(run_tree(*model, tree, {.seed = 9, .rows_per_step = kRows}));
    }
    ::unsetenv("APAR_CUDA_FUSION");
    const LogitDifference found = compare(all[1], all[0], config.vocab_size);
    CHECK(found.rows > 20);
    CHECK(found.different == 0);
  }
}

// Such as layers of which an adapter changes one, or of which one has codes that are kept.
TEST_CASE("gate and up that are stored differently are no pair") {
  const ModelConfig config = aligned_config();
  const RandomModel bf16 = make_random_model(config, 11, DType::bf16);
  CodedModel coded = make_coded_model(config, 11, DType::awq_4);
  RandomModel types = make_random_model(config, 11);
  const auto replace = [](WeightTable& table, const WeightTable& by, const std::string& name) {
    const auto file = static_cast<int32_t>(table.files.size());
    for (TensorInfo& tensor : table.tensors) {
      if (!tensor.name.ends_with(name)) continue;
      const auto found = std::ranges::find(by.tensors, tensor.name, &TensorInfo::name);
      const std::string path = by.files[static_cast<size_t>(found->file)];
      tensor = *found;
      tensor.file = file;
      table.files.push_back(path);
    }
  };
  replace(types.weights, bf16.weights, "layers.0.mlp.gate_proj.weight");
  replace(coded.coded.weights, coded.decoded.weights, "layers.1.mlp.up_proj.weight");
  std::mt19937 seeds(11);
  const TextTree tree = random_tree(seeds, 4, config.vocab_size);
  for (const auto& [random, format] : {std::pair<const RandomModel&, WeightFormat>(types, WeightFormat::bf16),
                                       {types, WeightFormat::int8},
                                       {coded.coded, WeightFormat::int4_g128}}) {
    std::vector<Logits> all;
    for (const char* const name : {"off", "on"}) {
      ::setenv("APAR_CUDA_FUSION", name, 1);
      all.push_back(run_tree(*open_cuda(random, format), tree, {.seed = 11, .rows_per_step = kRows}));
    }
    ::unsetenv("APAR_CUDA_FUSION");
    const LogitDifference found = compare(all[1], all[0], config.vocab_size);
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

// e4m3 keeps 4 significant bits of a weight.
TEST_CASE("fp8 on the tensor cores") {
  check_model(aligned_config(), WeightFormat::fp8, 0.2, 5);
}

// The weights are those that the codes stand for, so that only activations are rounded, as in bf16. Rounded
// again they would be others: the last check.
TEST_CASE("AWQ and GPTQ layers on the tensor cores, with their own codes") {
  for (const DType dtype : {DType::awq_4, DType::gptq_4}) {
    const CodedModel models = make_coded_model(aligned_config(), 9, dtype);
    check_model(models.coded, models.decoded, WeightFormat::int4_g128, 2e-2, 9);
    std::mt19937 seeds(9);
    const TextTree tree = random_tree(seeds, 4, models.coded.config.vocab_size);
    const RunOptions options = {.seed = 9, .rows_per_step = kRows};
    const auto kept = run_tree(*open_cuda(models.coded, WeightFormat::int4_g128), tree, options);
    const auto rounded = run_tree(*open_cuda(models.decoded, WeightFormat::int4_g128), tree, options);
    CHECK(compare(rounded, kept, static_cast<size_t>(models.coded.config.vocab_size)).worst > 5e-2);
  }
}

// 4 bits, with one scale for 128 inputs.
TEST_CASE("int4 in groups of 128 on the tensor cores") {
  check_model(aligned_config(), WeightFormat::int4_g128, 0.6, 10);
}

// The rounding error of an e4m3, and so of keys and values, is at most 1/16 and 2.5 % in the root mean
// square. In two layers that becomes 4 to 7 % of these models' logits (16 seeds each). The largest difference
// is no useful measure: where two scores are nearly equal, attention moves from one token to another.
TEST_CASE("an fp8 KV cache: logits near those of a bf16 or f32 cache, the same bits alone and together") {
  for (const auto& [config, weights] :
       {std::pair(aligned_config(), WeightFormat::bf16), {small_config(), WeightFormat::f32}}) {
    constexpr uint32_t kSeed = 6;
    CAPTURE(config.head_dim);
    const RandomModel random = make_random_model(config, kSeed);
    std::mt19937 seeds(kSeed);
    const TextTree tree = random_tree(seeds, 4, config.vocab_size);
    const Logits wide = run_tree(*open_cuda(random, weights), tree, {.seed = kSeed, .rows_per_step = kRows});
    const auto model = open_cuda(random, {weights, KvFormat::fp8});
    const Logits alone = run_tree(*model, tree, {.seed = kSeed, .rows_per_step = 1});
    const LogitDifference found = compare(alone, wide, config.vocab_size);
    CHECK(found.rows > 20);
    CHECK(found.rms > 0.01);  // shows that the cache is really fp8
    CHECK(found.rms < 0.1);
    check_together(*model, tree, alone, kSeed);
  }
}
