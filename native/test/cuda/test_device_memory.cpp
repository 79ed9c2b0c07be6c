// All memory of a model is allocated when it is opened, and a model that does not fit is refused then.
#include <doctest/doctest.h>

#include <cstdlib>

#include "common/error.h"
#include "engine/memory_plan.h"
#include "model/llama_layout.h"
#include "ops/cuda/gemm/cublaslt.h"
#include "ops/cuda/memory_plan.h"
#include "ops/cuda/step/step_graphs.h"
#include "test/coded_model.h"
#include "test/cuda/cuda_model.h"
#include "test/cuda/emulated_model.h"
#include "test/tree_run.h"

using namespace apar;
using namespace apar::test;

TEST_CASE("steps allocate nothing, and a model that does not fit is refused when it is opened") {
  // The inputs of the down projection are split, so that there are partial sums.
  const ModelConfig config = tensor_core_config(
      {.hidden_size = 32, .intermediate_size = 512, .num_layers = 1, .num_heads = 1, .num_kv_heads = 1});
  constexpr int32_t kBlocks = 24, kRows = 40;
  const RandomModel random = make_random_model(config, 3);
  std::mt19937 seeds(3);
  const TextTree tree = random_tree(seeds, 3, random.config.vocab_size);
  const auto [device, model] = open_emulated(random, kBlocks, kRows);
  const uint64_t needed = device->allocated_bytes();
  const int32_t allocations = device->allocations();
  const auto all = run_tree(*model, tree, {.seed = 3, .rows_per_step = 40});
  CHECK(device->graph_launches() > 0);
  CHECK(device->allocations() == allocations);

  const EmulatedModel exact = open_emulated(random, kBlocks, kRows, needed);
  CHECK(run_tree(*exact.model, tree, {.seed = 3, .rows_per_step = 40}) == all);
  for (const uint64_t too_little : {needed - 1, needed / 2, uint64_t{1000}}) {
    ErrorCode code = ErrorCode::internal;
    try {
      open_emulated(random, kBlocks, kRows, too_little);
    } catch (const Error& error) {
      code = error.code();
    }
    CHECK(code == ErrorCode::out_of_memory);
  }
}

TEST_CASE("the plan of the memory is what the device allocates, and no more blocks fit") {
  constexpr int32_t kRows = 40;
  ModelConfig config = with_all_features(tensor_core_config(
      {.hidden_size = 64, .intermediate_size = 200, .num_layers = 2, .num_heads = 4, .num_kv_heads = 2}));
  // With codes, the output layer is bf16 beside layers of int4-g128.
  struct Case {
    MedusaConfig medusa;
    WeightFormat format = WeightFormat::bf16;
    bool codes = false;
    bool tied = false;
  };
  for (const auto& [medusa, format, codes, tied] :
       {Case{}, Case{{2, 2, false, 60}}, Case{{8, 1, true, 61}}, Case{{}, WeightFormat::int4_g128},
        Case{{}, WeightFormat::int4_g128, true}, Case{{2, 2, false, 60}, WeightFormat::int4_g128, true},
        Case{{}, WeightFormat::int4_g128, true, true}}) {
    config.medusa = medusa;
    config.tie_word_embeddings = tied;
    const RandomModel random =
        codes ? make_coded_model(config, 3, DType::awq_4).coded : make_random_model(config, 3);
    const auto plan_for = [&](uint64_t free_bytes, const PoolRequest& pool) {
      const cuda::EmulatedDevice device(free_bytes);
      std::vector<std::unique_ptr<DeviceMemory>> devices;
      devices.push_back(std::make_unique<cuda::CudaMemory>(device.info(), 1));
      return plan_memory(devices, {random.config, random.weights, format, kRows, 8}, pool);
    };
    constexpr uint64_t kDevice = uint64_t{64} << 20;
    const MemoryPlan plan = plan_for(kDevice, {.min_blocks = 4, .max_blocks = 1 << 20});
    CHECK(plan.num_blocks > 4);
    CHECK(plan.kept_free_bytes == kDevice - static_cast<uint64_t>(0.9 * kDevice));
    // The emulated driver keeps nothing for graphs.
    const uint64_t graphs = cuda::kMaxGraphs * 3 * cuda::kGraphNodesPerLayer * cuda::kGraphNodeBytes;
    CHECK(open_emulated(random, plan.num_blocks, kRows, kDevice, format).device->allocated_bytes() + graphs ==
          plan.total_bytes());
    const int32_t more = plan.num_blocks + 1;
    CHECK(plan.total_bytes() <= kDevice - plan.kept_free_bytes);
    CHECK_THROWS_AS(plan_for(kDevice, {.min_blocks = more, .max_blocks = more}), Error);
  }
}

TEST_CASE("logits take room for the rows that can have them, not for all rows of a step") {
  const cuda::CudaMemory memory(cuda::EmulatedDevice(1 << 20).info(), 1);
  const auto bytes = [&](int32_t logit_rows) {
    const ModelConfig config = small_config();
    OpsConfig ops = ops_config(config, KvFormat::bf16, 64, {2048, logit_rows});
    ops.vocab_size = 128256;
    return memory.step_bytes(ops);
  };
  CHECK(bytes(2048) - bytes(512) == uint64_t{1536} * 128256 * sizeof(float));
  // 130 rows are padded to 192.
  CHECK(bytes(512) - bytes(130) == uint64_t{512 - 192} * 128256 * sizeof(float));
}

TEST_CASE("what cuBLASLt takes is planned") {
  const cuda::CudaMemory memory(cuda::EmulatedDevice(1 << 20).info(), 1);
  const OpsConfig ops = ops_config(small_config(), KvFormat::bf16, 8, 64);
  const Matrix layers[] = {{nullptr, DType::bf16, 128, 64}, {nullptr, DType::bf16, 256, 64}};
  const uint64_t step = memory.step_bytes(ops), weights = memory.linear_bytes(layers, WeightFormat::bf16);
  ::setenv("APAR_CUDA_GEMM", "cublaslt", 1);
  CHECK(memory.step_bytes(ops) == step + cuda::kCublasLtWorkspaceBytes);
  CHECK(memory.linear_bytes(layers, WeightFormat::bf16) == weights + uint64_t{128 + 256} * 64 * 2);
  ::setenv("APAR_CUDA_GEMM", "mma", 1);
  CHECK(memory.step_bytes(ops) == step);
  ::unsetenv("APAR_CUDA_GEMM");
}

TEST_CASE("graphs are planned where there are graphs") {
  const cuda::CudaMemory memory(cuda::EmulatedDevice(1 << 20).info(), 1);
  ModelConfig config = small_config();
  config.num_layers = 32;
  const OpsConfig ops = ops_config(config, KvFormat::bf16, 8, 64);
  CHECK(memory.driver_bytes(ops) > uint64_t{100} << 20);
  CHECK(memory.driver_bytes(ops) < uint64_t{400} << 20);
  ::setenv("APAR_CUDA_GRAPHS", "off", 1);
  CHECK(memory.driver_bytes(ops) == 0);
  ::unsetenv("APAR_CUDA_GRAPHS");
}

TEST_CASE("the partial results of attention take a bounded part, but there is one for every row") {
  OpsConfig config = {.num_layers = 1,
                      .num_heads = 32,
                      .num_kv_heads = 32,
                      .head_dim = 128,
                      .num_blocks = 4096,
                      .max_rows = 2048,
                      .max_context = 32768};
  constexpr int64_t kBytes = 32 * (128 + 2) * sizeof(float);
  CHECK(cuda::max_step_partials(config) == cuda::kPartialBytes / kBytes);
  CHECK(cuda::CudaMemory({}, 1).step_bytes(config) < uint64_t{300} << 20);
  config.max_rows = 100000;
  CHECK(cuda::max_step_partials(config) == 100000);
  // Few rows take what the longest of their lists needs: a result per chunk.
  config.max_rows = 4;
  CHECK(cuda::max_step_partials(config) == 4 * 32768 / cuda::kChunkTokens);
}
