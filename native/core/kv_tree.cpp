#include "core/kv_tree.h"

#include <algorithm>
#include <string>

#include "core/error.h"

namespace apar {

NodeId KvTree::add(NodeId parent, int32_t start, int32_t first_offset) {
  NodeId id;
  if (free_nodes_.empty()) {
    id = static_cast<NodeId>(nodes_.size());
    nodes_.emplace_back();
  } else {
    id = free_nodes_.back();
    free_nodes_.pop_back();
    at(id) = KvNode{};
  }
  KvNode& node = at(id);
  node.parent = parent;
  node.start = start;
  node.first_offset = first_offset;
  node.refs = 1;
  if (parent != kNoNode) ++at(parent).refs;
  return id;
}

NodeId KvTree::add_child(NodeId parent) {
  return add(parent, at(parent).end(), 0);
}

NodeId KvTree::add_continuation(NodeId parent) {
  const KvNode& above = at(parent);
  return add(parent, above.end(), (above.first_offset + above.num_tokens()) % kBlockTokens);
}

void KvTree::release(NodeId tail) {
  while (tail != kNoNode && --at(tail).refs == 0) {
    KvNode& node = at(tail);
    free_blocks(node);
    const NodeId parent = node.parent;
    node = KvNode{};
    free_nodes_.push_back(tail);
    tail = parent;
  }
}

void KvTree::append(NodeId node, std::span<const int32_t> tokens) {
  auto& own = at(node).tokens;
  own.insert(own.end(), tokens.begin(), tokens.end());
}

void KvTree::pin(NodeId tail) {
  for (NodeId id = tail; id != kNoNode; id = at(id).parent) ++at(id).pins;
}

void KvTree::unpin(NodeId tail) {
  for (NodeId id = tail; id != kNoNode; id = at(id).parent) {
    KvNode& node = at(id);
    if (--node.pins == 0) free_blocks(node);
  }
}

void KvTree::free_blocks(KvNode& node) {
  for (const int32_t block : node.blocks) pool_.release(block);
  node.blocks.clear();
  node.computed = 0;
}

bool KvTree::reserve(NodeId id, int32_t count) {
  KvNode& node = at(id);
  const auto wanted = static_cast<size_t>((node.first_offset + count + kBlockTokens - 1) / kBlockTokens);
  if (node.blocks.size() >= wanted) return true;
  const bool goes_on = node.blocks.empty() && node.first_offset > 0;
  const auto fresh = static_cast<int32_t>(wanted - node.blocks.size()) - (goes_on ? 1 : 0);
  if (fresh > pool_.num_free()) return false;
  if (goes_on) {
    const int32_t shared = at(node.parent).blocks.back();
    pool_.share(shared);
    node.blocks.push_back(shared);
  }
  while (node.blocks.size() < wanted) node.blocks.push_back(*pool_.allocate());
  return true;
}

int32_t KvTree::blocks_missing(NodeId tail) const {
  int32_t missing = 0;
  for (NodeId id = tail; id != kNoNode; id = at(id).parent) {
    const KvNode& node = at(id);
    const int32_t wanted = (node.first_offset + node.num_tokens() + kBlockTokens - 1) / kBlockTokens;
    const int32_t shared = node.blocks.empty() && node.first_offset > 0 ? 1 : 0;
    missing += std::max(0, wanted - static_cast<int32_t>(node.blocks.size()) - shared);
  }
  return missing;
}

void KvTree::path(NodeId tail, std::vector<NodeId>& out) const {
  out.clear();
  for (NodeId id = tail; id != kNoNode; id = at(id).parent) {
    if (at(id).num_tokens() > 0) out.push_back(id);
  }
  std::reverse(out.begin(), out.end());
}

void KvTree::check_integrity(std::span<const KvHolder> holders) const {
  const auto check = [](bool good, const char* what, NodeId id) {
    if (!good)
      throw Error(ErrorCode::internal, std::string("KV tree: ") + what + ", node " + std::to_string(id));
  };
  std::vector<int32_t> refs(nodes_.size(), 0), pins(nodes_.size(), 0);
  for (const KvHolder& holder : holders) {
    ++refs[static_cast<size_t>(holder.tail)];
    if (!holder.pinned) continue;
    for (NodeId id = holder.tail; id != kNoNode; id = at(id).parent) ++pins[static_cast<size_t>(id)];
  }
  std::vector<bool> is_free(nodes_.size(), false);
  for (const NodeId id : free_nodes_) is_free[static_cast<size_t>(id)] = true;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (!is_free[i] && nodes_[i].parent != kNoNode) ++refs[static_cast<size_t>(nodes_[i].parent)];
  }

  std::vector<int32_t> owners(static_cast<size_t>(pool_.num_blocks()), 0);
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const auto id = static_cast<NodeId>(i);
    const KvNode& node = nodes_[i];
    check(node.refs == refs[i], "reference count", id);
    check(node.pins == pins[i], "pin count", id);
    check(is_free[i] == (node.refs == 0), "free list", id);
    check(node.planned == 0, "planned outside a step", id);
    check(node.computed <= node.num_tokens(), "computed beyond its tokens", id);
    check(node.pins > 0 || node.blocks.empty(), "blocks without a running branch", id);
    const auto room = static_cast<int32_t>(node.blocks.size()) * kBlockTokens;
    check(node.blocks.empty() ? node.computed == 0 : node.first_offset + node.computed <= room,
          "too few blocks", id);
    for (const int32_t block : node.blocks) ++owners[static_cast<size_t>(block)];
    if (node.parent == kNoNode) continue;
    const KvNode& above = at(node.parent);
    check(node.start == above.end(), "position gap", id);
    check(node.computed == 0 || above.computed == above.num_tokens(), "computed before the node above", id);
    check(node.first_offset == 0 || node.blocks.empty() || node.blocks.front() == above.blocks.back(),
          "lost the block it shares", id);
  }
  int32_t used = 0;
  for (size_t block = 0; block < owners.size(); ++block) {
    check(owners[block] == pool_.refs(static_cast<int32_t>(block)), "block owners",
          static_cast<NodeId>(block));
    if (owners[block] > 0) ++used;
  }
  check(used + pool_.num_free() == pool_.num_blocks(), "blocks lost", kNoNode);
}

}  // namespace apar
