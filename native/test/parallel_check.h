#pragma once

#include <cstdint>

#include "model/model.h"

namespace apar::test {

struct ParallelRun {
  int32_t forks = 0;
  int64_t preemptions = 0;
};

// Four random requests decoded greedily in parallel on one model, every branch checked (doctest) against what
// the other model, with a pool of its own, writes serially. A random model has no idea of [Fork]: a token it
// likes plays the part; when that cannot be, nothing is run.
ParallelRun check_parallel(Model& serial, Model& parallel, int32_t step_tokens, int32_t max_branches,
                           uint32_t seed);

}  // namespace apar::test
