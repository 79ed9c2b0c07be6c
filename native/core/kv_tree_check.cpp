#include <algorithm>
#include <string>

#include "common/error.h"
#include "core/kv_tree.h"

namespace apar {
namespace {

void check(bool good, const char* what, size_t id) {
  if (!good)
    throw Error(ErrorCode::internal, std::string("KV tree: ") + what + ", number " + std::to_string(id));
}

}  // namespace

void KvTree::check_integrity(std::span<const KvHolder> tails) const {
  std::vector<int32_t> holders(nodes_.size(), 0), pins(nodes_.size(), 0);
  holders[0] = 1;
  for (const KvHolder& tail : tails) {
    ++holders[static_cast<size_t>(tail.tail)];
    if (!tail.pinned) continue;
    for (NodeId id = tail.tail; id != kNoNode; id = at(id).parent) ++pins[static_cast<size_t>(id)];
  }
  std::vector<bool> is_free(nodes_.size(), false);
  for (const NodeId id : free_nodes_) is_free[static_cast<size_t>(id)] = true;

  std::vector<int32_t> owners(static_cast<size_t>(pool_.num_blocks()), 0), pinned(owners.size(), 0);
  size_t in_order = 0;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const KvNode& node = nodes_[i];
    const auto id = static_cast<NodeId>(i);
    check(node.holders == holders[i], "holders", i);
    check(node.pins == pins[i], "pins", i);
    check(node.planned == 0, "planned outside a step", i);
    for (const int32_t block : node.blocks) {
      ++owners[static_cast<size_t>(block)];
      pinned[static_cast<size_t>(block)] += node.pins > 0;
    }
    for (const NodeId child : node.children) check(at(child).parent == id, "child of another", i);
    const bool ordered = evictable_.contains({node.last_used, id});
    check(ordered == evictable(id), "eviction order", i);
    in_order += ordered;
    if (is_free[i] || i == 0) continue;

    check(node.holders > 0 || !node.children.empty() || !node.blocks.empty(), "kept for nothing", i);
    check(prefix_cache_ || node.pins > 0 || node.blocks.empty(), "cached without a cache", i);
    const KvNode& above = at(node.parent);
    check(std::count(above.children.begin(), above.children.end(), id) == 1, "unknown to its parent", i);
    check(node.start == above.end(), "position gap", i);
    check(node.computed <= node.num_tokens(), "computed beyond its tokens", i);
    check(node.computed == 0 || above.computed == above.num_tokens(), "computed before the node above", i);
    const auto room = static_cast<int32_t>(node.blocks.size()) * kBlockTokens;
    check(node.computed == 0 || node.first_offset + node.computed <= room, "too few blocks", i);
    check(node.pins > 0 || node.blocks.empty() || node.first_offset + node.computed > room - kBlockTokens,
          "cached block without text", i);
    check(node.first_offset == 0 || node.blocks.empty() || node.blocks.front() == above.blocks.back(),
          "lost the block it shares", i);
  }
  check(in_order == evictable_.size(), "strangers in the eviction order", in_order);

  int32_t used = 0, busy = 0;
  for (size_t i = 0; i < owners.size(); ++i) {
    const auto block = static_cast<int32_t>(i);
    check(owners[i] == pool_.owners(block), "block owners", i);
    check(pinned[i] == pool_.pins(block), "block pins", i);
    used += owners[i] > 0;
    busy += pinned[i] > 0;
  }
  check(used + pool_.num_free() == pool_.num_blocks(), "blocks lost", 0);
  check(busy + pool_.num_available() == pool_.num_blocks(), "available blocks", 0);
}

}  // namespace apar
