#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "core/decoder.h"
#include "test/knowing_model.h"

namespace apar::test {

// The events of each request's branches in order; those of several branches have no order among them.
// Without the tokens that were found in the prefix cache, which depend on the load.
using Answers = std::map<std::pair<int32_t, int32_t>, std::vector<std::vector<int32_t>>>;

struct Served {
  Answers answers;
  Texts texts;  // of all branches, prompts included
  DecoderStats stats;
  std::vector<DraftCount> by_depth;  // of heads
};

struct ServeSettings {
  ControlTokens tokens;
  int32_t step_tokens = 48, branches = 6;
  bool prefix_cache = true;
  Speculation speculation = Speculation::off;
};

// Serves the requests on the model, one more every third step. Checks the rules for events and the decoder's
// counts.
Served serve(KnowingModel& model, const ServeSettings& settings, const std::vector<RequestParams>& requests);

struct RequestMix {
  int32_t count = 6;
  int32_t max_tokens = 80;  // of a request, at most
  bool on_host = true;      // some need logits on the host: for log-probabilities, penalties and biases
  bool all_fork = false;    // all may
};

// Requests of a few families of prompts of up to 40 tokens, greedy and sampled, on up to 3 levels of
// branches.
std::vector<RequestParams> random_requests(std::mt19937& random, const RequestMix& mix, int32_t vocab);

// What several comparisons showed.
struct Speculated {
  int64_t drafted = 0, accepted = 0, accepted_deep = 0;  // deep: the third token of a chain, or a later one
  int64_t copied = 0;  // slots, of accepted candidates off the likeliest path
  int64_t forks = 0, preemptions = 0, drawn_steps = 0;
};

enum class HeadsOf : uint8_t { test, checkpoint };

struct SpeculationCase {
  std::function<std::unique_ptr<Model>(int32_t blocks)> open = {};
  HeadsOf heads = HeadsOf::test;
  std::vector<int32_t> pools = {64, 10};  // in blocks; the last one forces pre-emption
  std::vector<bool> prefix_cache = {true, false};
  std::vector<int32_t> eos = {1};
  RequestMix mix = {};
  uint32_t seed = 1;
};

// Serves random requests without and with candidates, and requires the same answers, log-probabilities
// included. Adds to `total`.
void check_speculation(const SpeculationCase& tested, Speculated& total);

}  // namespace apar::test
