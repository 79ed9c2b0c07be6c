// A model on several ranks (CPU devices with an all-reduce in the process) gives the results of one device.
#include <doctest/doctest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>

#include "common/error.h"
#include "model/llama.h"
#include "ops/cpu/cpu_ops.h"
#include "ops/sharded/sharded_ops.h"
#include "test/parallel_check.h"
#include "test/random_model.h"
#include "test/tree_run.h"
#include "testing/local_communicator.h"

using namespace apar;
using namespace apar::test;

namespace {

constexpr int32_t kRows = 70;
using Logits = std::vector<std::vector<float>>;

MakeOps cpu_ranks(int32_t ranks) {
  return [=](const OpsConfig& config) {
    const auto sums = std::make_shared<LocalAllReduce>(ranks);
    return std::make_unique<ShardedOps>(config, ranks, [=](const OpsConfig& mine, int32_t rank) {
      return Rank{std::make_unique<LocalCommunicator>(sums, rank),
                  std::make_unique<cpu::CpuOps>(mine, cpu::select_isa(), 1)};
    });
  };
}

std::unique_ptr<Model> open_ranks(const RandomModel& random, WeightFormat format, int32_t ranks,
                                  int32_t blocks, int32_t rows) {
  return open_llama(random.config, random.weights, format, blocks, rows, cpu_ranks(ranks));
}

// Grouped-query attention; all sizes are divisible by 2 and 3.
ModelConfig divisible(int32_t kv_heads) {
  ModelConfig config = small_config();
  config.num_heads = 6;
  config.num_kv_heads = kv_heads;
  config.intermediate_size = 54;
  return config;
}

// For int8 and int4: every rank has whole groups of 32 inputs.
ModelConfig aligned() {
  ModelConfig config = small_config();
  config.hidden_size = 64;
  config.intermediate_size = 128;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  set_head_dim(config, 16);
  return config;
}

struct Difference {
  int rows = 0, different = 0;
  double worst = 0;  // relative to the largest logit
};

Difference compare(const Logits& a, const Logits& b, size_t vocab) {
  Difference found;
  double largest = 0;
  for (size_t branch = 0; branch < a.size(); ++branch) {
    for (size_t at = 0; at < a[branch].size(); at += vocab) {
      if (std::isnan(a[branch][at]) || std::isnan(b[branch][at])) continue;
      ++found.rows;
      found.different += std::memcmp(&a[branch][at], &b[branch][at], vocab * sizeof(float)) != 0;
      for (size_t i = at; i < at + vocab; ++i) {
        largest = std::max(largest, std::abs(double{a[branch][i]}));
        found.worst = std::max(found.worst, std::abs(double{a[branch][i]} - b[branch][i]));
      }
    }
  }
  found.worst /= largest;
  return found;
}

void check_ranks(const ModelConfig& config, WeightFormat format, int32_t ranks, double tolerance,
                 uint32_t seed) {
  CAPTURE(std::string(to_string(format)));
  CAPTURE(ranks);
  CAPTURE(config.num_kv_heads);
  const RandomModel random = make_random_model(config, seed);
  std::mt19937 seeds(seed);
  const TextTree tree = random_tree(seeds, 6, config.vocab_size);
  const auto vocab = static_cast<size_t>(config.vocab_size);
  const auto one = open_llama(random.config, random.weights, format, 48, kRows, 1);
  const auto several = open_ranks(random, format, ranks, 48, kRows);
  const Logits want = run_tree(*one, tree, {.seed = seed, .rows_per_step = kRows});
  const Logits alone = run_tree(*several, tree, {.seed = seed, .rows_per_step = 1});
  const Difference to_one = compare(want, alone, vocab);
  CHECK(to_one.rows > 30);
  CHECK(to_one.worst < tolerance);
  // With the same number of ranks a row has the same bits alone and in a batch.
  const Difference together =
      compare(alone, run_tree(*several, tree, {seed + 1, kRows, true, true, false}), vocab);
  CHECK(together.rows > 10);
  CHECK(together.different == 0);
}

}  // namespace

// Ranks split the sums of the o and down projections. f32: 2 layers x 2 sums whose roundings (2^-24)
// accumulate over a few dozen terms. bf16: such a difference sometimes rounds an input of a later layer to
// the neighbouring bf16 number, 2^-8 away. int8 and int4 round inputs to 8 bits as well, with one scale for
// each group of a row.
constexpr double kF32Bound = 1e-5, kRoundedBound = 2e-2;

TEST_CASE("several ranks give the logits of one device") {
  for (uint32_t seed = 1; seed <= 2; ++seed) {
    check_ranks(divisible(2), WeightFormat::f32, 2, kF32Bound, seed);
    check_ranks(divisible(6), WeightFormat::f32, 3, kF32Bound, seed);
    check_ranks(divisible(6), WeightFormat::bf16, 2, kRoundedBound, seed);
    check_ranks(aligned(), WeightFormat::int8, 2, kRoundedBound, seed);
    check_ranks(aligned(), WeightFormat::int4, 2, kRoundedBound, seed);
  }
}

// A bias of o or down that every rank added would be added several times.
TEST_CASE("several ranks give the logits of one device with biases, head norms and partial rotation") {
  for (const auto& [kv_heads, ranks] : {std::pair{2, 2}, {6, 3}, {1, 2}, {2, 6}}) {
    const ModelConfig config = with_all_features(divisible(kv_heads));
    check_ranks(config, WeightFormat::f32, ranks, kF32Bound, 7);
    check_ranks(config, WeightFormat::bf16, ranks, kRoundedBound, 8);
  }
  check_ranks(with_all_features(aligned()), WeightFormat::int8, 2, kRoundedBound, 9);
}

TEST_CASE("with fewer KV heads than ranks, several ranks hold the same KV head") {
  check_ranks(divisible(1), WeightFormat::f32, 2, kF32Bound, 3);
  check_ranks(divisible(1), WeightFormat::bf16, 3, kRoundedBound, 4);
  check_ranks(divisible(2), WeightFormat::f32, 6, kF32Bound, 5);
}

TEST_CASE("one rank gives the same bits as one device") {
  const RandomModel random = make_random_model(with_all_features(small_config()), 6);
  std::mt19937 seeds(6);
  const TextTree tree = random_tree(seeds, 6, random.config.vocab_size);
  const auto one = open_llama(random.config, random.weights, WeightFormat::bf16, 48, kRows, 1);
  const auto sharded = open_ranks(random, WeightFormat::bf16, 1, 48, kRows);
  const RunOptions options{.seed = 7, .rows_per_step = kRows};
  const Difference found =
      compare(run_tree(*one, tree, options), run_tree(*sharded, tree, options), random.config.vocab_size);
  CHECK(found.rows > 30);
  CHECK(found.different == 0);
}

TEST_CASE(
    "greedy parallel decoding on two ranks gives the tokens of serial decoding on one device, with "
    "preemption") {
  int forks = 0;
  int64_t preemptions = 0;
  for (const int32_t kv_heads : {1, 2}) {
    for (uint32_t seed = 1; seed <= 5; ++seed) {
      const RandomModel random = make_random_model(divisible(kv_heads), seed);
      const auto serial = open_llama(random.config, random.weights, WeightFormat::f32, 32, 512, 1);
      const auto parallel = open_ranks(random, WeightFormat::f32, 2, 14, 9);
      const ParallelRun run = check_parallel(*serial, *parallel, 9, 6, seed);
      forks += run.forks;
      preemptions += run.preemptions;
    }
  }
  CHECK(forks > 10);
  CHECK(preemptions > 10);
}

namespace {

ErrorCode code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::closed;  // means that nothing was thrown
}

// Throws in rank 1 after `sums_left` successful all-reduces.
class FailingCommunicator final : public Communicator {
 public:
  FailingCommunicator(std::shared_ptr<LocalAllReduce> sums, int32_t rank, int32_t sums_left)
      : inner_(std::move(sums), rank), left_(rank == 1 ? sums_left : -1) {}

  void all_reduce(float* y, int32_t rows, int32_t width) override {
    if (left_-- == 0) throw Error(ErrorCode::internal, "rank 1 failed");
    inner_.all_reduce(y, rows, width);
  }
  void abort() override { inner_.abort(); }

 private:
  LocalCommunicator inner_;
  int32_t left_;
};

}  // namespace

TEST_CASE("a model that cannot be divided among the ranks is refused when it is opened") {
  const RandomModel random = make_random_model();  // 6 heads, 2 KV heads, 50 inner elements, heads of 10
  const auto open = [&](WeightFormat format, int32_t ranks) {
    return code_of([&] { open_ranks(random, format, ranks, 8, 8); });
  };
  CHECK(open(WeightFormat::f32, 2) == ErrorCode::closed);
  CHECK(open(WeightFormat::f32, 3) == ErrorCode::invalid_config);
  CHECK(open(WeightFormat::f32, 4) == ErrorCode::invalid_config);
  CHECK(open(WeightFormat::int8, 2) ==
        ErrorCode::invalid_config);  // 30 inputs per rank, not a multiple of 32
}

TEST_CASE("a rank that cannot be opened or fails makes the model fail, and no rank hangs") {
  const RandomModel random = make_random_model();
  const auto open = [&](int32_t failing_rank, int32_t sums_left) {
    return open_llama(random.config, random.weights, WeightFormat::f32, 8, 8, [&](const OpsConfig& config) {
      const auto sums = std::make_shared<LocalAllReduce>(2);
      return std::make_unique<ShardedOps>(config, 2, [=](const OpsConfig& mine, int32_t rank) {
        if (rank == failing_rank) throw Error(ErrorCode::out_of_memory, "not enough memory on this device");
        return Rank{std::make_unique<FailingCommunicator>(sums, rank, sums_left),
                    std::make_unique<cpu::CpuOps>(mine, cpu::select_isa(), 1)};
      });
    });
  };
  CHECK(code_of([&] { open(0, -1); }) == ErrorCode::out_of_memory);
  CHECK(code_of([&] { open(1, -1); }) == ErrorCode::out_of_memory);

  const auto model = open(-1, 5);
  const std::vector<int32_t> tokens = {3}, positions = {0}, slots = {0}, blocks = {0}, path = {0}, rows = {0};
  const std::vector<SequenceRows> sequences = {{0, 1, 0, 1, 1}};
  const std::vector<KvNodeView> nodes = {{blocks, 0, 1}};
  std::vector<float> logits(61);
  const auto step = [&] { model->forward({tokens, positions, slots, sequences, nodes, path, rows}, logits); };
  step();  // four all-reduces
  for (int again = 0; again < 2; ++again) {
    try {
      step();
      FAIL_CHECK("the failure of a rank was not reported");
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::internal);
      CHECK(std::string(error.what()) == "rank 1 failed");
    }
  }
}
