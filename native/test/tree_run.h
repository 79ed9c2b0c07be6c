#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "model/model.h"

namespace apar::test {

// A tree of branches as texts: a branch takes over the first `inherited` tokens of its parent's path.
struct TextBranch {
  int32_t parent = -1;
  int32_t inherited = 0;
  std::vector<int32_t> own;
};
using TextTree = std::vector<TextBranch>;  // parents before children

// Several roots, up to `branches` branches, own texts of 1 to 40 tokens.
TextTree random_tree(std::mt19937& random, int32_t branches, int32_t vocab_size);

// The whole text of a branch, from its root.
std::vector<int32_t> path_tokens(const TextTree& tree, int32_t branch);

// How a run of the same tree differs from another.
struct RunOptions {
  uint32_t seed = 1;          // of everything below that is drawn
  int32_t rows_per_step = 1;  // upper bound
  bool extra_cuts = false;    // nodes end where no fork asks for it, empty nodes included
  bool share_blocks = false;  // a node goes on in its predecessor's last block, as after a fork
  bool all_logits = true;     // else of a random half of the rows
};

// Computes every token of the tree in random chunks of random branches and returns per branch the logits [own
// tokens, vocab_size] of its own tokens; rows whose logits were not asked for are NaN. The KV pool is full of
// other texts before.
std::vector<std::vector<float>> run_tree(Model& model, const TextTree& tree, const RunOptions& options);

}  // namespace apar::test
