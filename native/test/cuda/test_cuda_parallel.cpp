// The branching invariant on the device: parallel text equals serial text token for token, pre-emption
// forced.
#include <doctest/doctest.h>

#include "model/llama.h"
#include "ops/cuda/cuda_ops.h"
#include "test/cuda/open_device.h"
#include "test/parallel_check.h"
#include "test/random_model.h"

using namespace apar;
using namespace apar::test;

namespace {

std::unique_ptr<Model> open_cuda(const RandomModel& random, WeightFormat format, int32_t blocks,
                                 int32_t rows) {
  return open_llama(random.config, random.weights, format, blocks, rows, [](const OpsConfig& config) {
    return std::make_unique<cuda::CudaOps>(config, cuda::open_test_device());
  });
}

// The smallest shape that the tensor-core kernels take.
ModelConfig tiny_config() {
  ModelConfig config = small_config();
  config.hidden_size = 32;
  config.intermediate_size = 40;
  config.num_layers = 1;
  config.num_heads = config.num_kv_heads = 1;
  config.head_dim = 64;
  return config;
}

}  // namespace

TEST_CASE("greedy parallel text equals greedy serial text") {
  int64_t forks = 0, preemptions = 0;
  for (const WeightFormat format : {WeightFormat::bf16, WeightFormat::int4}) {
    for (uint32_t seed = 1; seed <= 2; ++seed) {
      const RandomModel random = make_random_model(tiny_config(), seed);
      const auto serial = open_cuda(random, format, 16, 256), parallel = open_cuda(random, format, 14, 20);
      const ParallelRun run = check_parallel(*serial, *parallel, 20, 6, seed);
      forks += run.forks;
      preemptions += run.preemptions;
    }
  }
  CHECK(forks > 5);
  CHECK(preemptions > 5);
}
