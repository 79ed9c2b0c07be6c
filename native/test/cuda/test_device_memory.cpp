// All of a model's memory is there before its first step: what does not fit is refused when it is opened.
#include <doctest/doctest.h>

#include "common/error.h"
#include "model/llama.h"
#include "ops/cuda/cuda_ops.h"
#include "ops/cuda/emulator/emulated_device.h"
#include "test/random_model.h"
#include "test/tree_run.h"

using namespace apar;
using namespace apar::test;

namespace {

// Its down projection is cut into parts, so that there are partial sums.
ModelConfig deep_inputs_config() {
  ModelConfig config = small_config();
  config.hidden_size = 32;
  config.intermediate_size = 512;
  config.num_layers = 1;
  config.num_heads = config.num_kv_heads = 1;
  config.head_dim = 64;
  return config;
}

std::unique_ptr<Model> open_on(const RandomModel& random, uint64_t device_bytes,
                               cuda::EmulatedDevice*& device) {
  return open_llama(random.config, random.weights, WeightFormat::bf16, 24, 40, [&](const OpsConfig& config) {
    auto owned = std::make_unique<cuda::EmulatedDevice>(device_bytes);
    device = owned.get();
    return std::make_unique<cuda::CudaOps>(config, std::move(owned));
  });
}

}  // namespace

TEST_CASE("steps allocate nothing, and what does not fit is refused when the model is opened") {
  const RandomModel random = make_random_model(deep_inputs_config(), 3);
  std::mt19937 seeds(3);
  const TextTree tree = random_tree(seeds, 3, random.config.vocab_size);
  cuda::EmulatedDevice* device = nullptr;
  const auto model = open_on(random, uint64_t{1} << 30, device);
  const uint64_t needed = device->allocated_bytes();
  const int32_t allocations = device->allocations();
  const auto all = run_tree(*model, tree, {.seed = 3, .rows_per_step = 40});
  CHECK(device->graph_launches() > 0);
  CHECK(device->allocations() == allocations);

  const auto exact = open_on(random, needed, device);
  CHECK(run_tree(*exact, tree, {.seed = 3, .rows_per_step = 40}) == all);
  for (const uint64_t too_little : {needed - 1, needed / 2, uint64_t{1000}}) {
    ErrorCode code = ErrorCode::internal;
    try {
      open_on(random, too_little, device);
    } catch (const Error& error) {
      code = error.code();
    }
    CHECK(code == ErrorCode::out_of_memory);
  }
}
