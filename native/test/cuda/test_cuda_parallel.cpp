// The branching invariant on the device: parallel text equals serial text token for token, pre-emption
// forced.
#include <doctest/doctest.h>

#include "core/decoder.h"
#include "model/llama.h"
#include "ops/cuda/cuda_ops.h"
#include "test/cuda/open_device.h"
#include "test/parallel_check.h"
#include "test/random_model.h"
#ifndef APAR_TEST_ON_DEVICE
#include "ops/cuda/emulator/emulated_device.h"
#endif

using namespace apar;
using namespace apar::test;

namespace {

std::unique_ptr<Model> open_cuda(const RandomModel& random, ModelFormat format, int32_t blocks,
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

// The tokens of a sampled request. With a bias that changes nothing, the logits come to the host.
std::vector<int32_t> sampled_text(Model& model, uint32_t seed, bool on_host) {
  Decoder decoder(model, {{5, 0, {}}, 20, 6});
  RequestParams params;
  params.id = 1;
  params.prompt = {7, 8, 9};
  params.max_tokens = 40;
  params.max_branches = 4;
  params.max_depth = 2;
  params.sampling.temperature = 0.8f;
  params.sampling.top_p = 0.9f;
  params.sampling.top_k = 30;
  params.sampling.seed = seed;
  if (on_host) params.logit_bias = {{3, 0.0f}};
  decoder.submit(params);
  std::vector<Event> events;
  while (decoder.step(events)) {
  }
  std::vector<int32_t> text;
  for (const Event& event : events) text.insert(text.end(), {event.branch, event.a});
  return text;
}

}  // namespace

TEST_CASE("sampled text is the same whether the device draws or hands out its logits") {
  const RandomModel random = make_random_model(tiny_config(), 3);
  const auto model = open_cuda(random, WeightFormat::bf16, 16, 64);
  REQUIRE(model->draws());
  int different = 0;
  for (uint32_t seed = 1; seed <= 4; ++seed) {
    const std::vector<int32_t> drawn = sampled_text(*model, seed, false);
    CHECK(drawn.size() > 40);
    different += drawn != sampled_text(*model, seed, true);
  }
  // Both round their sums: in one draw of many the border between two tokens may lie elsewhere.
  CHECK(different <= 1);
}

// Chunks of as many rows, of which only the last gives logits.
TEST_CASE("a prompt in equal chunks is answered like the same prompt at once") {
  const RandomModel random = make_random_model(tiny_config(), 4);
  const auto answer = [&](int32_t rows) {
    const auto model = open_cuda(random, WeightFormat::bf16, 16, rows);
    Decoder decoder(*model, {{5, 0, {}}, rows, 4});
    RequestParams params;
    params.id = 1;
    for (int32_t i = 0; i < 40; ++i) params.prompt.push_back(10 + i);
    params.max_tokens = 6;
    decoder.submit(params);
    std::vector<Event> events;
    while (decoder.step(events)) {
    }
    std::vector<int32_t> text;
    for (const Event& event : events) text.push_back(event.a);
    return text;
  };
  const std::vector<int32_t> at_once = answer(64);
  CHECK(at_once.size() > 6);
  CHECK(answer(8) == at_once);
}

TEST_CASE("a prompt found in an fp8 prefix cache is answered as when it was computed") {
  const RandomModel random = make_random_model(tiny_config(), 5);
  const auto model = open_cuda(random, {WeightFormat::bf16, KvFormat::fp8}, 16, 32);
  Decoder decoder(*model, {{5, 0, {}}, 32, 4});
  std::vector<std::vector<int32_t>> answers;
  for (int32_t id = 1; id <= 2; ++id) {
    RequestParams params;
    params.id = id;
    for (int32_t i = 0; i < 50; ++i) params.prompt.push_back(9 + i);
    params.max_tokens = 12;
    decoder.submit(params);
    std::vector<Event> events;
    while (decoder.step(events)) {
    }
    auto& answer = answers.emplace_back();
    for (const Event& event : events)
      if (event.kind == EventKind::token) answer.push_back(event.a);
  }
  CHECK(answers[0].size() == 12);
  CHECK(answers[1] == answers[0]);
  CHECK(decoder.stats().cached_prompt_tokens > 40);
}

#ifndef APAR_TEST_ON_DEVICE
TEST_CASE("a step waits for the device once, a prompt's chunks included") {
  const RandomModel random = make_random_model(tiny_config(), 3);
  cuda::EmulatedDevice* device = nullptr;
  const auto model =
      open_llama(random.config, random.weights, WeightFormat::bf16, 16, 8, [&](const OpsConfig& config) {
        auto owned = std::make_unique<cuda::EmulatedDevice>();
        device = owned.get();
        return std::make_unique<cuda::CudaOps>(config, std::move(owned));
      });
  Decoder decoder(*model, {{5, 0, {}}, 8, 4});
  RequestParams params;
  params.id = 1;
  params.prompt.assign(40, 7);  // five chunks; only the last gives logits
  params.max_tokens = 12;
  params.max_branches = 3;
  params.max_depth = 2;
  decoder.submit(params);
  std::vector<Event> events;
  const int32_t before = device->waits();
  REQUIRE((decoder.step(events) && decoder.step(events)));
  // The second chunk is recorded, and launched before the third is planned: nothing was waited for but the
  // first.
  CHECK(device->graph_launches() == 1);
  CHECK(device->waits() - before == 1);
  while (decoder.step(events)) {
  }
  CHECK(decoder.stats().steps > 10);
  CHECK(device->waits() - before == decoder.stats().steps);
}
#endif

TEST_CASE("greedy parallel text equals greedy serial text") {
  int64_t forks = 0, preemptions = 0;
  for (const ModelFormat format : {ModelFormat(WeightFormat::bf16), ModelFormat(WeightFormat::int4),
                                   ModelFormat(WeightFormat::bf16, KvFormat::fp8)}) {
    for (uint32_t seed = 1; seed <= 2; ++seed) {
      const RandomModel random = make_random_model(tiny_config(), seed);
      const auto serial = open_cuda(random, format, 16, 256), parallel = open_cuda(random, format, 14, 20);
      const ParallelRun run = check_parallel(*serial, *parallel, 20, 6, seed);
      forks += run.forks;
      preemptions += run.preemptions;
    }
  }
  CHECK(forks > 8);
  CHECK(preemptions > 8);
}
