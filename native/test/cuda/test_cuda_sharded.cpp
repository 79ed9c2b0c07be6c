// A model on several CUDA devices: the all-reduce over the ranks, also within graphs and with padded rows.
// One rank has the same bits as the device without ranks.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>

#include "common/error.h"
#include "ops/cuda/cuda_rank.h"
#include "ops/cuda/elementwise/elementwise.h"
#include "test/coded_model.h"
#include "test/cuda/cuda_model.h"
#include "test/cuda/device_array.h"
#include "test/cuda/either_order.h"
#include "test/cuda/logit_difference.h"
#include "test/parallel_check.h"
#include "test/tree_run.h"

using namespace apar;
using namespace apar::test;

namespace {

constexpr int32_t kBlocks = 16, kRows = 40;

std::unique_ptr<Model> open_ranks(const RandomModel& random, ModelFormat format, int32_t ranks,
                                  int32_t blocks, int32_t rows) {
  std::vector<int32_t> devices(static_cast<size_t>(ranks));
  std::iota(devices.begin(), devices.end(), 0);
  return open_llama(random.config, random.weights, format, blocks, rows, [&](const OpsConfig& config) {
    const auto group = std::make_shared<cuda::NcclGroup>(cuda::test_nccl(), devices);
    return std::make_unique<ShardedOps>(config, ranks, [&](const OpsConfig& part, int32_t rank) {
      return cuda::make_cuda_rank(part, rank, cuda::open_test_device(rank), group);
    });
  });
}

// The tensor-core kernels support this shape, and each of its halves.
ModelConfig divisible(int32_t kv_heads, int32_t layers = 2, int32_t inner = 48) {
  return tensor_core_config({.hidden_size = 40,
                             .intermediate_size = inner,
                             .num_layers = layers,
                             .num_heads = 2,
                             .num_kv_heads = kv_heads});
}

}  // namespace

TEST_CASE("partial sums are added in the order of ranks") {
  const auto device = cuda::open_test_device();
  std::mt19937 random(1);
  for (const int32_t partials : {1, 2, 5}) {
    const int64_t count = 700;
    const std::vector<float> values = random_floats(random, static_cast<size_t>(partials * count));
    const DeviceArray<float> from(*device, values);
    DeviceArray<float> to(*device, static_cast<size_t>(count) + 3);
    const auto sums = in_either_order([&] {
      to.poison();
      cuda::add_partials(device->stream(), partials, count, from.data(), to.data());
      std::vector<float> got = to.get();
      for (int64_t i = count; i < count + 3; ++i) REQUIRE(std::isnan(got[i]));
      got.resize(count);
      return got;
    });
    for (int64_t i = 0; i < count; ++i) {
      float want = values[i];
      for (int32_t partial = 1; partial < partials; ++partial) want += values[partial * count + i];
      REQUIRE(sums[i] == want);
    }
  }
}

TEST_CASE("one rank with NCCL has the same bits as the device without ranks") {
  const RandomModel random = make_random_model(divisible(1), 1);
  std::mt19937 seeds(1);
  const TextTree tree = random_tree(seeds, 3, random.config.vocab_size);
  const auto alone = open_cuda(random, WeightFormat::bf16, kBlocks, kRows);
  const auto rank = open_ranks(random, WeightFormat::bf16, 1, kBlocks, kRows);
  // With one row per step, the second step is captured as a graph, and later steps replay it.
  for (const RunOptions& options : {RunOptions{2, 1}, RunOptions{3, kRows}}) {
    const LogitDifference found =
        compare(run_tree(*rank, tree, options), run_tree(*alone, tree, options), random.config.vocab_size);
    CHECK(found.rows > 20);
    CHECK(found.different == 0);
  }
}

TEST_CASE("loading on a device reports its progress") {
  const RandomModel random = make_random_model(divisible(1), 1);
  std::vector<double> shares;
  open_llama(
      random.config, random.weights, WeightFormat::bf16, 4, 4,
      [](const OpsConfig& config) {
        return std::make_unique<cuda::CudaOps>(config, cuda::open_test_device());
      },
      [&](uint64_t done, uint64_t total) {
        shares.push_back(static_cast<double>(done) / static_cast<double>(total));
      });
  CHECK(shares.size() == 2 + 7 * 2);  // embedding table, output layer, linear layers
  CHECK(std::is_sorted(shares.begin(), shares.end()));
  CHECK(shares.back() == 1.0);
}

TEST_CASE("two ranks: logits near those of one device, the same bits alone and together") {
  if (cuda::num_test_devices() < 2) return;
  // As in test_sharded.cpp, the bounds depend on where sums are divided and on the rounding that follows,
  // above all the rounding to fp8.
  const struct {
    ModelFormat format;
    int32_t kv_heads;
    double bound;
    bool all_features = false;
  } cases[] = {{WeightFormat::f32, 1, 1e-5},
               {WeightFormat::bf16, 2, 2e-2},
               {WeightFormat::bf16, 2, 2e-2, true},
               {{WeightFormat::bf16, KvFormat::fp8}, 2, 0.1}};
  for (const auto& c : cases) {
    CAPTURE(std::string(to_string(c.format.kv)));
    const ModelConfig plain = divisible(c.kv_heads);
    const RandomModel random = make_random_model(c.all_features ? with_all_features(plain) : plain, 2);
    std::mt19937 seeds(2);
    const TextTree tree = random_tree(seeds, 3, random.config.vocab_size);
    const size_t vocab = random.config.vocab_size;
    const auto one = open_cuda(random, c.format, kBlocks, kRows);
    const auto two = open_ranks(random, c.format, 2, kBlocks, kRows);
    const Logits alone = run_tree(*two, tree, {.seed = 3, .rows_per_step = 1});
    const LogitDifference to_one =
        compare(alone, run_tree(*one, tree, {.seed = 4, .rows_per_step = kRows}), vocab);
    CHECK(to_one.rows > 15);
    CHECK(to_one.worst < c.bound);
    const LogitDifference together = compare(run_tree(*two, tree, {5, kRows, true, true}), alone, vocab);
    CHECK(together.rows > 15);
    CHECK(together.different == 0);
  }
}

// Both ranks have whole groups of 128 inputs, and the numbers of the whole layers. With groups of their own
// the difference would be as large as between int4-g128 and f32.
TEST_CASE("two ranks keep the codes of 4-bit layers; a rank cannot have part of a group") {
  if (cuda::num_test_devices() < 2) return;
  const ModelConfig config = tensor_core_config(
      {.hidden_size = 72, .intermediate_size = 256, .num_layers = 2, .num_heads = 4, .num_kv_heads = 2});
  const RandomModel random = make_coded_model(config, 3, DType::awq_4).coded;
  std::mt19937 seeds(3);
  const TextTree tree = random_tree(seeds, 3, config.vocab_size);
  const auto one = open_cuda(random, WeightFormat::int4_g128, kBlocks, kRows);
  const auto two = open_ranks(random, WeightFormat::int4_g128, 2, kBlocks, kRows);
  const LogitDifference found = compare(run_tree(*two, tree, {.seed = 3, .rows_per_step = kRows}),
                                        run_tree(*one, tree, {.seed = 3, .rows_per_step = kRows}),
                                        static_cast<size_t>(config.vocab_size));
  CHECK(found.rows > 15);
  CHECK(found.worst < 2e-2);
  ErrorCode code = ErrorCode::internal;
  try {
    open_ranks(make_random_model(divisible(2), 3), WeightFormat::int4_g128, 2, kBlocks, kRows);
  } catch (const Error& error) {
    code = error.code();
  }
  CHECK(code == ErrorCode::invalid_config);
}

TEST_CASE("greedy parallel text of two ranks equals greedy serial text of one device") {
  if (cuda::num_test_devices() < 2) return;
  const RandomModel random = make_random_model(divisible(1, 1, 32), 2);
  const auto serial = open_cuda(random, WeightFormat::f32, 16, 256);
  const auto parallel = open_ranks(random, WeightFormat::f32, 2, 14, 20);
  const ParallelRun run = check_parallel(*serial, *parallel, 20, 6, 2);
  CHECK(run.forks > 1);
  CHECK(run.preemptions > 1);
}

TEST_CASE("an aborted rank refuses to gather") {
  const std::vector<int32_t> devices = {0};
  cuda::NcclGroup group(cuda::test_nccl(), devices);
  const auto device = cuda::open_test_device();
  const DeviceArray<float> values(*device, 8);
  group.abort(0);
  CHECK_THROWS_AS(group.all_gather(0, values.data(), values.data() + 4, 4, device->stream()), Error);
}

#ifndef APAR_TEST_ON_DEVICE
TEST_CASE("an error names the NCCL library that was not found") {
  ::setenv("APAR_NCCL_LIBRARY", "/nowhere/libnccl.so.2", 1);
  try {
    cuda::load_nccl();
    FAIL_CHECK("found");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::unavailable);
    CHECK(std::string(error.what()).find("APAR_NCCL_LIBRARY") != std::string::npos);
    CHECK(std::string(error.what()).find("/nowhere") != std::string::npos);
  }
  ::unsetenv("APAR_NCCL_LIBRARY");
}
#endif
