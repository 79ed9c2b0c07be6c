// The branching invariant on the device: parallel text equals serial text token for token, with forced
// preemption.
#include <doctest/doctest.h>

#include "core/decoder.h"
#include "test/cuda/cuda_model.h"
#include "test/parallel_check.h"
#ifndef APAR_TEST_ON_DEVICE
#include "test/cuda/emulated_model.h"
#endif

using namespace apar;
using namespace apar::test;

namespace {

ModelConfig tiny_config() {
  return tensor_core_config(
      {.hidden_size = 32, .intermediate_size = 40, .num_layers = 1, .num_heads = 1, .num_kv_heads = 1});
}

// Submits a request and runs steps until the decoder is idle.
std::vector<Event> run(Decoder& decoder, const RequestParams& params) {
  decoder.submit(params);
  std::vector<Event> events;
  while (decoder.step(events)) {
  }
  return events;
}

// A request whose prompt is `prompt_tokens` consecutive token ids.
RequestParams greedy_request(int32_t id, int32_t first_token, int32_t prompt_tokens, int32_t max_tokens) {
  RequestParams params;
  params.id = id;
  for (int32_t i = 0; i < prompt_tokens; ++i) params.prompt.push_back(first_token + i);
  params.max_tokens = max_tokens;
  return params;
}

// The tokens of a sampled request. A logit bias of zero, which changes no logit, makes the host sample.
std::vector<int32_t> sampled_text(Model& model, uint32_t seed, bool on_host) {
  Decoder decoder(model, {{5, 0, {}}, 20, 6});
  RequestParams params = greedy_request(1, 7, 3, 40);
  params.max_branches = 4;
  params.max_depth = 2;
  params.sampling.temperature = 0.8f;
  params.sampling.top_p = 0.9f;
  params.sampling.top_k = 30;
  params.sampling.seed = seed;
  if (on_host) params.logit_bias = {{3, 0.0f}};
  std::vector<int32_t> text;
  for (const Event& event : run(decoder, params)) text.insert(text.end(), {event.branch, event.a});
  return text;
}

}  // namespace

TEST_CASE("sampled text is the same whether the device or the host samples") {
  const RandomModel random = make_random_model(tiny_config(), 3);
  const auto model = open_cuda(random, WeightFormat::bf16, 16, 64);
  REQUIRE(model->draws());
  int different = 0;
  for (uint32_t seed = 1; seed <= 4; ++seed) {
    const std::vector<int32_t> drawn = sampled_text(*model, seed, false);
    CHECK(drawn.size() > 40);
    different += drawn != sampled_text(*model, seed, true);
  }
  // Both round their sums, so that rarely a sample near the border between two tokens may differ.
  CHECK(different <= 1);
}

// All chunks have the same number of rows, but only the last one computes logits.
TEST_CASE("a prompt in equal chunks gives the same answer as the prompt in one chunk") {
  const RandomModel random = make_random_model(tiny_config(), 4);
  const auto answer = [&](int32_t rows) {
    const auto model = open_cuda(random, WeightFormat::bf16, 16, rows);
    Decoder decoder(*model, {{5, 0, {}}, rows, 4});
    std::vector<int32_t> text;
    for (const Event& event : run(decoder, greedy_request(1, 10, 40, 6))) text.push_back(event.a);
    return text;
  };
  const std::vector<int32_t> at_once = answer(64);
  CHECK(at_once.size() > 6);
  CHECK(answer(8) == at_once);
}

TEST_CASE("a prompt from an fp8 prefix cache gives the same answer as when it was computed") {
  const RandomModel random = make_random_model(tiny_config(), 5);
  const auto model = open_cuda(random, {WeightFormat::bf16, KvFormat::fp8}, 16, 32);
  Decoder decoder(*model, {{5, 0, {}}, 32, 4});
  std::vector<std::vector<int32_t>> answers;
  for (int32_t id = 1; id <= 2; ++id) {
    auto& answer = answers.emplace_back();
    for (const Event& event : run(decoder, greedy_request(id, 9, 50, 12)))
      if (event.kind == EventKind::token) answer.push_back(event.a);
  }
  CHECK(answers[0].size() == 12);
  CHECK(answers[1] == answers[0]);
  CHECK(decoder.stats().cached_prompt_tokens > 40);
}

#ifndef APAR_TEST_ON_DEVICE
TEST_CASE("a step waits for the device once, also for each chunk of a prompt") {
  const RandomModel random = make_random_model(tiny_config(), 3);
  const auto [device, model] = open_emulated(random, 16, 8);
  Decoder decoder(*model, {{5, 0, {}}, 8, 4});
  RequestParams params;
  params.id = 1;
  params.prompt.assign(40, 7);  // five chunks; only the last one computes logits
  params.max_tokens = 12;
  params.max_branches = 3;
  params.max_depth = 2;
  params.speculation = Speculation::off;  // a step for each token
  decoder.submit(params);
  std::vector<Event> events;
  const int32_t before = device->waits();
  REQUIRE((decoder.step(events) && decoder.step(events)));
  // The second chunk has been captured and launched. The only wait so far was for the first chunk.
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
