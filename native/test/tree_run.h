#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "model/model.h"

namespace apar::test {

// A tree of branches as texts: a branch begins with the first `inherited` tokens of its parent's path.
struct TextBranch {
  int32_t parent = -1;
  int32_t inherited = 0;
  std::vector<int32_t> own;
};
using TextTree = std::vector<TextBranch>;  // parents before children

// Up to `branches` branches with 1 to 40 own tokens each, several of them roots.
TextTree random_tree(std::mt19937& random, int32_t branches, int32_t vocab_size);

// All tokens of a branch, from its root on.
std::vector<int32_t> path_tokens(const TextTree& tree, int32_t branch);

// How run_tree() cuts the tree into steps and nodes.
struct RunOptions {
  uint32_t seed = 1;          // of all random choices
  int32_t rows_per_step = 1;  // upper bound
  bool extra_cuts = false;    // nodes also end where there is no fork; some nodes are empty
  bool share_blocks = false;  // a node continues in the last block of the previous one, as after a fork
  bool all_logits = true;     // false: only for a random half of the rows
};

// Computes all tokens of the tree, in random chunks of random branches, and returns for each branch the
// logits [own tokens, vocab_size] of its own tokens; rows without logits are NaN. Before, it fills the KV
// pool with other texts.
std::vector<std::vector<float>> run_tree(Model& model, const TextTree& tree, const RunOptions& options);

}  // namespace apar::test
