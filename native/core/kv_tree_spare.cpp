// Blocks for a single step: those behind the computed tokens of a node, and borrowed ones.
#include "core/kv_tree.h"

namespace apar {

void KvTree::release_spare(NodeId id) {
  KvNode& node = at(id);
  const int32_t kept =
      node.computed > 0 ? (node.first_offset + node.computed + kBlockTokens - 1) / kBlockTokens : 0;
  while (static_cast<int32_t>(node.blocks.size()) > kept) {
    pool_.unpin(node.blocks.back());
    pool_.release(node.blocks.back());
    node.blocks.pop_back();
  }
}

std::optional<int32_t> KvTree::borrow() {
  if (pool_.num_available() == 0) return std::nullopt;
  while (pool_.num_free() == 0) evict();
  const auto block = pool_.allocate();
  pool_.pin(*block);
  return block;
}

void KvTree::give_back(int32_t block) {
  pool_.unpin(block);
  pool_.release(block);
}

void KvTree::forget_cache() {
  while (!evictable_.empty()) evict();
}

}  // namespace apar
