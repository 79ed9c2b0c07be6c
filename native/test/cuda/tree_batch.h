#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "common/step_batch.h"

namespace apar::test {

// A step over a tree of KV nodes. It owns the data that its StepBatch refers to. Slots are scattered over the
// pool.
class TreeBatch {
 public:
  // Adds a node of `tokens` tokens below `parent` (-1: a root) and returns its index.
  int32_t add_node(int32_t parent, int32_t tokens, std::mt19937& random);
  // Adds a sequence whose path ends with the first `tokens` tokens of `node`. The step computes the last
  // `rows` tokens of that path.
  void add_sequence(int32_t node, int32_t tokens, int32_t rows);

  StepBatch batch() const;
  int32_t num_blocks() const { return num_blocks_; }
  // The slots of the tokens that a row sees, by position.
  std::vector<int32_t> visible_slots(int32_t row) const;

 private:
  struct Node {
    int32_t parent, first_offset, tokens;
    std::vector<int32_t> blocks;
  };
  std::vector<int32_t> path_to(int32_t node) const;

  int32_t num_blocks_ = 0;
  std::vector<Node> nodes_;
  std::vector<int32_t> tokens_, positions_, slots_, path_, logit_rows_;
  std::vector<SequenceRows> sequences_;
  std::vector<std::vector<int32_t>> row_slots_;
  mutable std::vector<KvNodeView> views_;
};

// `sequences` sequences of one row or of a chunk of a prompt, on nodes of up to `node_tokens` tokens.
TreeBatch random_tree_batch(uint32_t seed, int32_t sequences, int32_t node_tokens);
// A prompt of `shared` tokens and below it `branches` branches of `own` tokens, with one row each.
TreeBatch fan_batch(int32_t shared, int32_t own, int32_t branches);

}  // namespace apar::test
