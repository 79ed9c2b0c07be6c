#include "core/kv_tree.h"

#include <algorithm>

namespace apar {
namespace {

constexpr NodeId kRoot = 0;

int32_t blocks_for(int32_t tokens) {
  return (tokens + kBlockTokens - 1) / kBlockTokens;
}

int32_t common_prefix(std::span<const int32_t> a, std::span<const int32_t> b) {
  const auto end = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<int32_t>(end.first - a.begin());
}

}  // namespace

KvTree::KvTree(int32_t num_blocks, bool prefix_cache) : pool_(num_blocks), prefix_cache_(prefix_cache) {
  nodes_.emplace_back();
  nodes_[kRoot].ref_count = 1;
}

// All that may throw comes before the first change, here and in split().
NodeId KvTree::add(NodeId parent, int32_t first_offset) {
  if (free_nodes_.empty()) {
    // remove_unused() must not allocate.
    if (free_nodes_.capacity() <= nodes_.size()) free_nodes_.reserve(2 * (nodes_.size() + 1));
    nodes_.emplace_back();
    free_nodes_.push_back(static_cast<NodeId>(nodes_.size()) - 1);
  }
  const NodeId id = free_nodes_.back();
  at(parent).children.push_back(id);
  free_nodes_.pop_back();
  KvNode& node = at(id);
  node = KvNode{};
  node.parent = parent;
  node.start = at(parent).end();
  node.first_offset = first_offset;
  node.ref_count = 1;
  return id;
}

NodeId KvTree::add_child(NodeId parent) {
  return add(parent, 0);
}

NodeId KvTree::add_continuation(NodeId parent) {
  return add(parent, (at(parent).first_offset + at(parent).num_tokens()) % kBlockTokens);
}

NodeId KvTree::attach(std::span<const int32_t> tokens, int32_t max_partial) {
  NodeId node = kRoot;
  int32_t partial = 0;  // blocks of the path to `node` that stay partly empty, without the last one
  int32_t used = 0;     // slots used in the last one, if not all
  while (prefix_cache_ && !tokens.empty()) {
    NodeId best = kNoNode;
    int32_t longest = 0;
    for (const NodeId child : at(node).children) {
      const int32_t common = common_prefix(at(child).tokens, tokens);
      if (common > longest) longest = common, best = child;
    }
    if (best == kNoNode) break;
    const int32_t offset = at(best).first_offset;
    if (offset == 0 && used > 0) ++partial;
    if (partial + ((offset + longest) % kBlockTokens > 0 ? 1 : 0) > max_partial)
      longest = (offset + longest) / kBlockTokens * kBlockTokens - offset;
    if (longest <= 0) break;
    used = (offset + longest) % kBlockTokens;
    tokens = tokens.subspan(static_cast<size_t>(longest));
    // The tail of another branch may still grow, so it cannot become an inner node of this path.
    const bool whole = longest == at(best).num_tokens() && at(best).ref_count == 0;
    node = whole ? best : split(best, longest);
    if (!whole) break;
  }
  const NodeId tail = add_child(node);
  try {
    append(tail, tokens);
  } catch (...) {
    release(tail);
    throw;
  }
  return tail;
}

// Splits a node after `count` tokens and returns the upper part, a new node. `id` becomes the lower part, so
// the tails of branches keep their ids.
NodeId KvTree::split(NodeId id, int32_t count) {
  const int32_t cut = at(id).first_offset + count;
  const auto upper_blocks = std::min(static_cast<int32_t>(at(id).blocks.size()), blocks_for(cut));
  std::vector<int32_t> tokens(at(id).tokens.begin(), at(id).tokens.begin() + count);
  std::vector<int32_t> blocks(at(id).blocks.begin(), at(id).blocks.begin() + upper_blocks);
  std::vector<NodeId> children{id};
  EvictionOrder reserve;
  for (NodeId each = 0; each < 3; ++each) reserve.insert({0, each});

  const NodeId upper_id = add(at(id).parent, at(id).first_offset);
  KvNode& upper = at(upper_id);
  KvNode& lower = at(id);
  evictable_.erase({lower.last_used, id});
  upper.ref_count = 0;
  upper.pins = lower.pins;
  upper.last_used = lower.last_used;
  upper.start = lower.start;
  upper.tokens = std::move(tokens);
  upper.computed = std::min(count, lower.computed);
  upper.children = std::move(children);
  upper.blocks = std::move(blocks);
  auto& siblings = at(lower.parent).children;
  siblings.erase(std::find(siblings.begin(), siblings.end(), id));

  lower.parent = upper_id;
  lower.start += count;
  lower.first_offset = cut % kBlockTokens;
  lower.tokens.erase(lower.tokens.begin(), lower.tokens.begin() + count);
  lower.computed = std::max(0, lower.computed - count);
  const auto full_blocks = std::min(static_cast<int32_t>(lower.blocks.size()), cut / kBlockTokens);
  lower.blocks.erase(lower.blocks.begin(), lower.blocks.begin() + full_blocks);
  if (lower.first_offset > 0 && !lower.blocks.empty()) {  // both parts have tokens in the block of the cut
    pool_.share(lower.blocks.front());
    if (lower.pins > 0) pool_.pin(lower.blocks.front());
  }
  // If the computed tokens end at or before the cut, the lower part's block holds none of its tokens.
  if (lower.pins == 0 && lower.computed == 0) trim(id, 0);
  for (const NodeId node : {id, upper_id, upper.parent}) {
    if (node == kNoNode) continue;
    if (!evictable(node)) {
      evictable_.erase({at(node).last_used, node});
      continue;
    }
    auto entry = reserve.extract(reserve.begin());
    entry.value() = {at(node).last_used, node};
    evictable_.insert(std::move(entry));
  }
  return upper_id;
}

void KvTree::append(NodeId tail, std::span<const int32_t> tokens) {
  auto& own = at(tail).tokens;
  own.insert(own.end(), tokens.begin(), tokens.end());
}

void KvTree::release(NodeId tail) {
  --at(tail).ref_count;
  remove_unused(tail);
}

// Removes `id` and its ancestors as far as they have no references, no children and no cached tokens.
void KvTree::remove_unused(NodeId id) {
  while (at(id).ref_count == 0 && at(id).children.empty()) {
    KvNode& node = at(id);
    if (!prefix_cache_ && !node.blocks.empty()) {
      trim(id, 0);
      update_eviction_order(id);
    }
    if (!node.blocks.empty()) {
      node.tokens.resize(static_cast<size_t>(node.computed));  // the others have no K and V
      return;
    }
    const NodeId parent = node.parent;
    auto& siblings = at(parent).children;
    siblings.erase(std::find(siblings.begin(), siblings.end(), id));
    node = KvNode{};
    free_nodes_.push_back(id);
    id = parent;
  }
}

void KvTree::pin(NodeId tail) {
  for (NodeId id = tail; id != kNoNode; id = at(id).parent) {
    KvNode& node = at(id);
    if (node.pins++ > 0) continue;
    evictable_.erase({node.last_used, id});
    for (const int32_t block : node.blocks) pool_.pin(block);
  }
}

void KvTree::unpin(NodeId tail) {
  ++clock_;
  for (NodeId id = tail; id != kNoNode; id = at(id).parent) {
    KvNode& node = at(id);
    if (--node.pins > 0) continue;
    for (const int32_t block : node.blocks) pool_.unpin(block);
    node.last_used = clock_;
    trim(id, node.computed > 0 ? blocks_for(node.first_offset + node.computed) : 0);
    update_eviction_order(id);
  }
}

// Releases the blocks of an unpinned node except the first `count`.
void KvTree::trim(NodeId id, int32_t count) {
  KvNode& node = at(id);
  while (static_cast<int32_t>(node.blocks.size()) > count) {
    pool_.release(node.blocks.back());
    node.blocks.pop_back();
  }
  node.computed = std::max(0, std::min(node.computed, count * kBlockTokens - node.first_offset));
  if (node.computed > 0 || node.blocks.empty()) return;
  pool_.release(node.blocks.back());  // this block holds only tokens of the node above
  node.blocks.pop_back();
}

bool KvTree::has_blocks_below(NodeId id) const {
  const auto& children = at(id).children;
  return std::any_of(children.begin(), children.end(),
                     [&](NodeId child) { return !at(child).blocks.empty(); });
}

bool KvTree::evictable(NodeId id) const {
  return at(id).pins == 0 && !at(id).blocks.empty() && !has_blocks_below(id);
}

// Updates evictable_ for a node whose blocks or pins have changed, and for its parent.
void KvTree::update_eviction_order(NodeId id) {
  for (const NodeId node : {id, at(id).parent}) {
    if (node == kNoNode) continue;
    if (evictable(node)) {
      evictable_.insert({at(node).last_used, node});
    } else {
      evictable_.erase({at(node).last_used, node});
    }
  }
}

// Releases the last block of the least recently used node.
void KvTree::evict() {
  const NodeId id = evictable_.begin()->second;
  trim(id, static_cast<int32_t>(at(id).blocks.size()) - 1);
  update_eviction_order(id);
  remove_unused(id);
}

bool KvTree::reserve(NodeId id, int32_t count) {
  const int32_t wanted = blocks_for(at(id).first_offset + count);
  const auto have = static_cast<int32_t>(at(id).blocks.size());
  if (have >= wanted) return true;
  const bool continues = have == 0 && at(id).first_offset > 0;
  const int32_t needed = wanted - have - (continues ? 1 : 0);
  if (needed > pool_.num_available()) return false;
  while (pool_.num_free() < needed) evict();
  KvNode& node = at(id);
  // A block that is in no list would never be released.
  const auto room = static_cast<size_t>(wanted);
  if (node.blocks.capacity() < room) node.blocks.reserve(std::max(room, 2 * node.blocks.size()));
  if (continues) {  // in the last block of the node above
    const int32_t shared = at(node.parent).blocks.back();
    pool_.share(shared);
    node.blocks.push_back(shared);
  }
  while (static_cast<int32_t>(node.blocks.size()) < wanted) node.blocks.push_back(*pool_.allocate());
  for (auto i = static_cast<size_t>(have); i < node.blocks.size(); ++i) pool_.pin(node.blocks[i]);
  return true;
}

int32_t KvTree::blocks_missing(NodeId tail) const {
  int32_t missing = 0;
  for (NodeId id = tail; id != kRoot; id = at(id).parent) {
    const KvNode& node = at(id);
    const auto have = static_cast<int32_t>(node.blocks.size());
    const int32_t shared = have == 0 && node.first_offset > 0 ? 1 : 0;
    missing += std::max(0, blocks_for(node.first_offset + node.num_tokens()) - have - shared);
  }
  return missing;
}

int32_t KvTree::blocks_idle(NodeId tail) const {
  int32_t idle = 0;
  for (NodeId id = tail; id != kRoot; id = at(id).parent) {
    const KvNode& node = at(id);
    // A first block that is shared with the node above is counted there.
    for (auto i = static_cast<size_t>(node.first_offset > 0 ? 1 : 0); i < node.blocks.size(); ++i) {
      idle += pool_.pins(node.blocks[i]) == 0 ? 1 : 0;
    }
  }
  return idle;
}

int32_t KvTree::computed_tokens(NodeId tail) const {
  int32_t tokens = 0;
  for (NodeId id = tail; id != kRoot; id = at(id).parent) tokens += at(id).computed;
  return tokens;
}

void KvTree::path(NodeId tail, std::vector<NodeId>& out) const {
  out.clear();
  for (NodeId id = tail; id != kRoot; id = at(id).parent) {
    if (at(id).num_tokens() > 0) out.push_back(id);
  }
  std::reverse(out.begin(), out.end());
}

}  // namespace apar
