#include <algorithm>
#include <string>

#include "common/error.h"
#include "core/kv_tree.h"

namespace apar {
namespace {

void check(bool good, const char* what, int64_t number) {
  if (!good) throw Error(ErrorCode::internal, std::string("KV tree: ") + what + " " + std::to_string(number));
}

}  // namespace

void KvTree::check_integrity(std::span<const TailReference> tails) const {
  std::vector<int32_t> ref_counts(nodes_.size(), 0), pins(nodes_.size(), 0);
  ref_counts[0] = 1;
  for (const TailReference& tail : tails) {
    ++ref_counts[static_cast<size_t>(tail.tail)];
    if (!tail.pinned) continue;
    for (NodeId id = tail.tail; id != kNoNode; id = at(id).parent) ++pins[static_cast<size_t>(id)];
  }
  std::vector<bool> is_free(nodes_.size(), false);
  for (const NodeId id : free_nodes_) is_free[static_cast<size_t>(id)] = true;

  std::vector<int32_t> block_refs(static_cast<size_t>(pool_.num_blocks()), 0), pinned(block_refs.size(), 0);
  size_t in_order = 0;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const KvNode& node = nodes_[i];
    const auto id = static_cast<NodeId>(i);
    check(node.ref_count == ref_counts[i], "wrong ref count of node", i);
    check(node.pins == pins[i], "wrong number of pins of node", i);
    check(node.scheduled == 0, "scheduled tokens outside a step, node", i);
    for (const int32_t block : node.blocks) {
      ++block_refs[static_cast<size_t>(block)];
      pinned[static_cast<size_t>(block)] += node.pins > 0;
    }
    for (const NodeId child : node.children)
      check(at(child).parent == id, "a child names another parent, node", i);
    const bool ordered = evictable_.contains({node.last_used, id});
    check(ordered == evictable(id), "wrong eviction order at node", i);
    in_order += ordered;
    if (is_free[i] || i == 0) continue;

    check(node.ref_count > 0 || !node.children.empty() || !node.blocks.empty(), "unused node", i);
    check(prefix_cache_ || node.ref_count > 0 || !node.children.empty() || node.blocks.empty(),
          "cached although the prefix cache is off, node", i);
    const KvNode& above = at(node.parent);
    check(std::count(above.children.begin(), above.children.end(), id) == 1,
          "missing in its parent's children, node", i);
    check(node.start == above.end(), "does not start where its parent ends, node", i);
    check(node.computed <= node.num_tokens(), "more computed tokens than tokens, node", i);
    check(node.computed == 0 || above.computed == above.num_tokens(), "computed before its parent, node", i);
    const auto room = static_cast<int32_t>(node.blocks.size()) * kBlockTokens;
    check(node.computed == 0 || node.first_offset + node.computed <= room, "too few blocks, node", i);
    check(node.pins > 0 || node.blocks.empty() || node.first_offset + node.computed > room - kBlockTokens,
          "a cached block without tokens, node", i);
    check(node.first_offset == 0 || node.blocks.empty() || node.blocks.front() == above.blocks.back(),
          "first block is not the parent's last one, node", i);
  }
  check(in_order == evictable_.size(), "other nodes in the eviction order, expected size", in_order);

  int32_t used = 0, busy = 0;
  for (size_t i = 0; i < block_refs.size(); ++i) {
    const auto block = static_cast<int32_t>(i);
    check(block_refs[i] == pool_.ref_count(block), "wrong ref count of block", i);
    check(pinned[i] == pool_.pins(block), "wrong number of pins of block", i);
    used += block_refs[i] > 0;
    busy += pinned[i] > 0;
  }
  check(used + pool_.num_free() == pool_.num_blocks(), "used and free blocks do not add up, used", used);
  check(busy + pool_.num_available() == pool_.num_blocks(),
        "pinned and available blocks do not add up, pinned", busy);
}

}  // namespace apar
