// Trees of candidates on CudaOps (docs/adr/0047): answers are the same with as without, whether the host
// samples or the device draws.
#include <doctest/doctest.h>

#include <string>

#include "test/cuda/cuda_model.h"
#include "test/draft_check.h"
#include "test/speculation_run.h"

using namespace apar;
using namespace apar::test;

namespace {

constexpr int32_t kRows = 48;

// Attention of the tensor cores.
ModelConfig aligned(int32_t vocab) {
  ModelConfig config = tensor_core_config(
      {.hidden_size = 40, .intermediate_size = 48, .num_layers = 2, .num_heads = 2, .num_kv_heads = 1});
  config.vocab_size = vocab;
  return config;
}

void check_on_cuda(const ModelConfig& config, ModelFormat format, SpeculationCase tested, Speculated& total) {
  const RandomModel checkpoint = make_random_model(config, tested.seed);
  CAPTURE(std::string(to_string(format.weights)));
  CAPTURE(std::string(to_string(format.kv)));
  tested.open = [&](int32_t blocks) { return open_cuda(checkpoint, format, blocks, kRows); };
  check_speculation(tested, total);
}

void report(const std::string& what, const Speculated& total) {
  MESSAGE(what << ": " << total.drafted << " drafted, " << total.accepted << " accepted, "
               << total.accepted_deep << " of them at depth 2 or more, " << total.copied << " slots copied, "
               << total.drawn_steps << " steps drawn, " << total.forks << " forks, " << total.preemptions
               << " preemptions");
}

}  // namespace

TEST_CASE("answers on the device are the same when heads are often right, in every format of the cache") {
  struct Case {
    ModelConfig config;
    ModelFormat format;
    bool on_host;
  };
  Speculated total;
  for (const auto& [config, format, on_host] : {Case{aligned(61), WeightFormat::bf16, false},
                                                {aligned(61), {WeightFormat::bf16, KvFormat::fp8}, false},
                                                {small_config(), WeightFormat::f32, true}})
    check_on_cuda(config, format,
                  {.pools = {7}, .prefix_cache = {true}, .eos = {}, .mix = {4, 32, on_host, true}, .seed = 3},
                  total);
  report("heads that are often right", total);
  CHECK(total.accepted > 30);
  CHECK(total.accepted_deep > 2);
  CHECK(total.copied > 10);
  CHECK(total.drawn_steps > 20);
  CHECK(total.forks > 3);
  CHECK(total.preemptions > 1);
}

TEST_CASE("answers on the device are the same with random Medusa heads of both kinds") {
  for (const bool shares_lm_head : {false, true}) {
    Speculated total;
    check_on_cuda(with_heads(aligned(5), shares_lm_head, 4, 1), WeightFormat::bf16,
                  {.heads = HeadsOf::checkpoint,
                   .pools = {7},
                   .prefix_cache = {true},
                   .eos = {},
                   .mix = {4, 32, false, true},
                   .seed = 2},
                  total);
    report(shares_lm_head ? "heads that share lm_head" : "heads with projections", total);
    CHECK(total.accepted > 8);
    CHECK(total.copied > 2);
    CHECK(total.drawn_steps > 8);
  }
}
