#pragma once

#include <cstdint>

#include "model/model.h"

namespace apar::test {

struct ParallelRun {
  int32_t forks = 0;
  int64_t preemptions = 0;
};

// Decodes four random requests greedily in parallel on `parallel` and checks (doctest) every branch against
// greedy serial decoding on `serial`, which has its own KV pool. A random model knows no [Fork], so the most
// frequent token of its own text is used as [Fork]. If it is another control token, nothing runs.
ParallelRun check_parallel(Model& serial, Model& parallel, int32_t step_tokens, int32_t max_branches,
                           uint32_t seed);

}  // namespace apar::test
