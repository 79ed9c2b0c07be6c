#include "test/cuda/tree_batch.h"

#include <algorithm>

namespace apar::test {
namespace {

// An integer in [from, to].
int32_t uniform(std::mt19937& random, int32_t from, int32_t to) {
  return from + static_cast<int32_t>(random() % static_cast<uint32_t>(to - from + 1));
}

}  // namespace

int32_t TreeBatch::add_node(int32_t parent, int32_t tokens, std::mt19937& random) {
  const int32_t first_offset = uniform(random, 0, kBlockTokens - 1);
  Node node = {parent, first_offset, tokens, {}};
  // Skips some block numbers, as if the blocks belonged to other texts.
  for (int32_t i = 0; i < first_offset + tokens; i += kBlockTokens) {
    node.blocks.push_back(num_blocks_);
    num_blocks_ += uniform(random, 1, 2);
  }
  std::shuffle(node.blocks.begin(), node.blocks.end(), random);
  nodes_.push_back(std::move(node));
  return static_cast<int32_t>(nodes_.size()) - 1;
}

std::vector<int32_t> TreeBatch::path_to(int32_t node) const {
  std::vector<int32_t> path;
  for (; node >= 0; node = nodes_[node].parent) path.push_back(node);
  std::reverse(path.begin(), path.end());
  return path;
}

void TreeBatch::add_sequence(int32_t node, int32_t tokens, int32_t rows) {
  const std::vector<int32_t> path = path_to(node);
  std::vector<int32_t> slots;
  for (const int32_t index : path) {
    const Node& at = nodes_[index];
    for (int32_t i = 0; i < (index == node ? tokens : at.tokens); ++i) {
      const int32_t offset = at.first_offset + i;
      slots.push_back(at.blocks[offset / kBlockTokens] * kBlockTokens + offset % kBlockTokens);
    }
  }
  const auto context = static_cast<int32_t>(slots.size());
  sequences_.push_back({static_cast<int32_t>(tokens_.size()), rows, static_cast<int32_t>(path_.size()),
                        static_cast<int32_t>(path.size()), context});
  path_.insert(path_.end(), path.begin(), path.end());
  for (int32_t position = context - rows; position < context; ++position) {
    logit_rows_.push_back(static_cast<int32_t>(tokens_.size()));
    tokens_.push_back(position % 7);
    positions_.push_back(position);
    slots_.push_back(slots[position]);
    row_slots_.emplace_back(slots.begin(), slots.begin() + position + 1);
  }
}

StepBatch TreeBatch::batch() const {
  views_.clear();
  for (const Node& node : nodes_) views_.push_back({node.blocks, node.first_offset, node.tokens});
  return {tokens_, positions_, slots_, sequences_, views_, path_, logit_rows_};
}

std::vector<int32_t> TreeBatch::visible_slots(int32_t row) const {
  return row_slots_[row];
}

TreeBatch random_tree_batch(uint32_t seed, int32_t sequences, int32_t node_tokens) {
  std::mt19937 random(seed);
  TreeBatch tree;
  std::vector<int32_t> lengths;
  const auto add = [&] {
    const auto known = static_cast<int32_t>(lengths.size());
    const int32_t parent = known == 0 || random() % 5 == 0 ? -1 : uniform(random, 0, known - 1);
    lengths.push_back(random() % 3 == 0 ? uniform(random, 1, 5) : uniform(random, 1, node_tokens));
    return tree.add_node(parent, lengths.back(), random);
  };
  for (int32_t i = 0; i < sequences; ++i) add();
  for (int32_t i = 0; i < sequences; ++i) {
    const int32_t node = add();
    // A node may hold more tokens than this sequence sees, as after a preemption.
    const int32_t tokens = uniform(random, 1, lengths[node]);
    tree.add_sequence(node, tokens, random() % 2 == 0 ? 1 : uniform(random, 1, tokens));
  }
  return tree;
}

TreeBatch fan_batch(int32_t shared, int32_t own, int32_t branches) {
  std::mt19937 random(1);
  TreeBatch tree;
  const int32_t root = tree.add_node(-1, shared, random);
  for (int32_t i = 0; i < branches; ++i) tree.add_sequence(tree.add_node(root, own, random), own, 1);
  return tree;
}

}  // namespace apar::test
