#pragma once

#include <cstdint>
#include <numeric>
#include <vector>

#include "model/model.h"

namespace apar::test {

// One sequence in slots of the test's choice, without a tree: `blocks` hold its tokens one after the other.
struct SequenceRun {
  Model& model;
  std::vector<int32_t> blocks;
  int32_t length = 0;  // computed tokens

  // Computes the next tokens in one step and returns the logits [tokens, vocab_size] of all of them.
  std::vector<float> step(const std::vector<int32_t>& tokens) {
    const auto count = static_cast<int32_t>(tokens.size());
    std::vector<int32_t> positions(tokens.size()), slots, logit_rows(tokens.size());
    std::iota(positions.begin(), positions.end(), length);
    std::iota(logit_rows.begin(), logit_rows.end(), 0);
    for (const int32_t position : positions)
      slots.push_back(blocks[position / kBlockTokens] * kBlockTokens + position % kBlockTokens);
    length += count;
    const std::vector<SequenceRows> sequences = {{0, count, 0, 1, length}};
    const std::vector<KvNodeView> nodes = {{blocks, 0, length}};
    const std::vector<int32_t> path = {0};
    std::vector<float> logits(tokens.size() * static_cast<size_t>(model.config().vocab_size));
    model.forward({tokens, positions, slots, sequences, nodes, path, logit_rows}, logits);
    return logits;
  }
};

}  // namespace apar::test
