// Trees of candidates on a real forward pass (docs/adr/0047): answers are the same with as without, bit for
// bit in their log-probabilities, when candidates off the likeliest path are accepted too.
#include <doctest/doctest.h>

#include <string>

#include "model/llama.h"
#include "test/draft_check.h"
#include "test/random_model.h"
#include "test/speculation_run.h"

using namespace apar;
using namespace apar::test;

namespace {

constexpr int32_t kRows = 48;

// int8 has whole groups of 32 inputs.
ModelConfig aligned(int32_t vocab) {
  ModelConfig config = small_config();
  config.vocab_size = vocab;
  config.hidden_size = 64;
  config.intermediate_size = 128;
  config.num_heads = 4;
  set_head_dim(config, 16);
  return config;
}

struct Setup {
  ModelFormat format;
  int32_t threads;
};

const Setup kSetups[] = {{WeightFormat::f32, 1},  {{WeightFormat::f32, KvFormat::bf16}, 3},
                         {WeightFormat::bf16, 2}, {{WeightFormat::bf16, KvFormat::f32}, 1},
                         {WeightFormat::int8, 3}, {{WeightFormat::int8, KvFormat::f32}, 2},
                         {WeightFormat::int4, 2}};

void report(const std::string& what, const Speculated& total) {
  MESSAGE(what << ": " << total.drafted << " drafted, " << total.accepted << " accepted, "
               << total.accepted_deep << " of them at depth 2 or more, " << total.copied << " slots copied, "
               << total.forks << " forks, " << total.preemptions << " preemptions");
}

void check_on_cpu(const ModelConfig& config, const Setup& setup, SpeculationCase tested, Speculated& total) {
  const RandomModel checkpoint = make_random_model(config, tested.seed);
  CAPTURE(std::string(to_string(setup.format.weights)));
  CAPTURE(std::string(to_string(setup.format.kv)));
  CAPTURE(setup.threads);
  tested.open = [&](int32_t blocks) {
    return open_llama(checkpoint.config, checkpoint.weights, setup.format, blocks, kRows, setup.threads);
  };
  check_speculation(tested, total);
}

}  // namespace

TEST_CASE("answers are the same when heads are often right, in every format and with several threads") {
  Speculated total;
  for (const Setup& setup : kSetups)
    for (uint32_t seed = 1; seed <= 4; ++seed)
      check_on_cpu(seed % 2 == 0 ? aligned(61) : small_config(), setup, {.seed = seed}, total);
  report("heads that are often right", total);
  CHECK(total.accepted > 2000);
  CHECK(total.accepted_deep > 200);
  CHECK(total.copied > 1000);
  CHECK(total.forks > 50);
  CHECK(total.preemptions > 30);
}

// Of few tokens, random heads propose all, and are often right by chance.
TEST_CASE("answers are the same with random Medusa heads of both kinds") {
  for (const bool shares_lm_head : {false, true}) {
    Speculated total;
    for (const Setup& setup : kSetups)
      for (uint32_t seed = 5; seed <= 6; ++seed)
        check_on_cpu(with_heads(aligned(5), shares_lm_head, 4, 1), setup,
                     {.heads = HeadsOf::checkpoint, .eos = {}, .seed = seed}, total);
    report(shares_lm_head ? "heads that share lm_head" : "heads with projections", total);
    CHECK(total.accepted > 1000);
    CHECK(total.accepted_deep > 50);
    CHECK(total.copied > 500);
    CHECK(total.forks > 50);
    CHECK(total.preemptions > 30);
  }
}
