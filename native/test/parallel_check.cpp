#include "test/parallel_check.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "core/decoder.h"
#include "test/serial_check.h"

namespace apar::test {
namespace {

// The logits after every prefix of `path` of at least `first` tokens, computed as one sequence.
std::vector<std::vector<float>> serial_logits(Model& model, std::span<const int32_t> path, size_t first) {
  const auto rows = static_cast<int32_t>(path.size());
  std::vector<int32_t> blocks, positions, slots, wanted;
  for (int32_t i = 0; i < (rows + kBlockTokens - 1) / kBlockTokens; ++i) blocks.push_back(i);
  for (int32_t i = 0; i < rows; ++i) {
    positions.push_back(i);
    slots.push_back(i);
    if (i + 1 >= static_cast<int32_t>(first)) wanted.push_back(i);
  }
  const std::vector<KvNodeView> nodes{{blocks, 0, rows}};
  const std::vector<int32_t> node_path{0};
  const std::vector<SequenceRows> sequences{{0, rows, 0, 1, rows}};
  const auto vocab = static_cast<size_t>(model.config().vocab_size);
  std::vector<float> logits(wanted.size() * vocab);
  model.forward({path, positions, slots, sequences, nodes, node_path, wanted}, logits);
  std::vector<std::vector<float>> all;
  for (size_t i = 0; i < wanted.size(); ++i) {
    all.emplace_back(logits.begin() + static_cast<ptrdiff_t>(i * vocab),
                     logits.begin() + static_cast<ptrdiff_t>((i + 1) * vocab));
  }
  return all;
}

// The most frequent of 40 greedily decoded tokens.
int32_t most_frequent_token(Model& model, std::vector<int32_t> path) {
  std::vector<int32_t> counts(static_cast<size_t>(model.config().vocab_size), 0);
  for (int i = 0; i < 40; ++i) {
    const auto logits = serial_logits(model, path, path.size()).back();
    const auto token = std::max_element(logits.begin(), logits.end()) - logits.begin();
    ++counts[static_cast<size_t>(token)];
    path.push_back(static_cast<int32_t>(token));
  }
  return static_cast<int32_t>(std::max_element(counts.begin(), counts.end()) - counts.begin());
}

}  // namespace

ParallelRun check_parallel(Model& serial, Model& parallel, int32_t step_tokens, int32_t max_branches,
                           uint32_t seed) {
  const int32_t vocab = serial.config().vocab_size;
  std::mt19937 random(seed);
  const auto prompt = [&] {
    std::vector<int32_t> tokens(5 + random() % 50);
    for (int32_t& token : tokens) token = static_cast<int32_t>(random() % static_cast<uint32_t>(vocab));
    return tokens;
  };
  const ControlTokens tokens{most_frequent_token(serial, prompt()), 0, {1}};
  if (tokens.fork <= 1) return {};

  Decoder decoder(parallel, {tokens, step_tokens, max_branches});
  std::map<int32_t, Transcript> transcripts;
  std::map<int32_t, RequestParams> requests;
  for (int32_t id = 1; id <= 4; ++id) {
    RequestParams params;
    params.id = id;
    params.prompt = prompt();
    params.max_tokens = 90;
    params.max_branches = 64;
    params.max_depth = 1 + static_cast<int32_t>(seed % 3);
    transcripts.emplace(id, Transcript(params.prompt));
    requests.emplace(id, params);
    decoder.submit(params);
  }
  std::vector<Event> events;
  while (decoder.step(events)) decoder.check_integrity();
  REQUIRE(decoder.idle());
  for (const Event& event : events) REQUIRE(transcripts.at(event.request).apply(event) == "");
  ParallelRun run;
  for (const auto& [id, transcript] : transcripts) {
    const auto logits_after = [&](std::span<const int32_t> path, size_t first) {
      return serial_logits(serial, path, first);
    };
    CHECK(serial_mismatch(transcript, requests.at(id), tokens, logits_after) == "");
    run.forks += static_cast<int32_t>(transcript.branches.size()) - 1;
  }
  run.preemptions = decoder.stats().preemptions;
  return run;
}

}  // namespace apar::test
