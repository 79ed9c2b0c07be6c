// Parallel against serial decoding with a real forward pass; the serial model has its own KV pool.
#include <doctest/doctest.h>

#include "model/llama.h"
#include "test/parallel_check.h"
#include "test/random_model.h"

using namespace apar;
using namespace apar::test;

namespace {

constexpr int32_t kMaxRows = 256;

struct Case {
  WeightFormat format;
  int32_t threads, blocks, step_tokens, branches;
};

}  // namespace

TEST_CASE(
    "greedy parallel decoding gives the tokens of greedy serial decoding on a Llama with random weights") {
  int64_t forks = 0, preemptions = 0;
  for (const Case& c : {Case{WeightFormat::f32, 2, 200, 64, 16}, Case{WeightFormat::bf16, 2, 200, 64, 16},
                        Case{WeightFormat::f32, 1, 14, 8, 4}, Case{WeightFormat::bf16, 3, 14, 9, 6},
                        Case{WeightFormat::int8, 2, 20, 16, 8}, Case{WeightFormat::int4, 2, 200, 64, 16}}) {
    for (uint32_t seed = 1; seed <= 4; ++seed) {
      const RandomModel files = make_random_model(small_config(), seed);
      const auto serial = open_llama(files.config, files.weights, c.format, 32, kMaxRows, 1);
      const auto parallel =
          open_llama(files.config, files.weights, c.format, c.blocks, c.step_tokens, c.threads);
      const ParallelRun run = check_parallel(*serial, *parallel, c.step_tokens, c.branches, seed);
      forks += run.forks;
      preemptions += run.preemptions;
    }
  }
  CHECK(forks > 20);
  CHECK(preemptions > 20);
}
