#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "common/step_batch.h"
#include "core/block_pool.h"

namespace apar {

using NodeId = int32_t;
constexpr NodeId kNoNode = -1;

// A run of tokens between two forks, and where their K and V lie.
struct KvNode {
  NodeId parent = kNoNode;
  int32_t start = 0;         // position of the first token along the path
  int32_t first_offset = 0;  // of the first token in blocks[0]
  int32_t computed = 0;      // leading tokens whose K and V are in the pool
  int32_t planned = 0;       // tokens after these that the step being planned computes
  int32_t holders = 0;       // branches that end here
  int32_t pins = 0;          // running branches whose path goes through here
  uint64_t last_used = 0;    // when it was last unpinned
  std::vector<int32_t> tokens;
  std::vector<int32_t> blocks;  // hold the computed tokens and those about to be
  std::vector<NodeId> children;

  int32_t num_tokens() const { return static_cast<int32_t>(tokens.size()); }
  int32_t end() const { return start + num_tokens(); }
  int32_t pending() const { return num_tokens() - computed - planned; }
  int32_t slot(int32_t index) const {
    const int32_t at = first_offset + index;
    return blocks[static_cast<size_t>(at / kBlockTokens)] * kBlockTokens + at % kBlockTokens;
  }
};

// Who ends where, for check_integrity.
struct KvHolder {
  NodeId tail;
  bool pinned;
};

// All tokens and KV blocks: prompts, branches, and what is left of both as prefix cache. One tree below an
// empty root; a branch is the chain of nodes down to its tail, and branches share the nodes of their common
// prefix, whichever request they belong to. What no running branch needs stays until blocks are wanted, least
// recently used first, so a branch that is set aside, a next turn and a second request with the same
// beginning all find what was computed. Not thread-safe.
class KvTree {
 public:
  KvTree(int32_t num_blocks, bool prefix_cache);

  // A new tail, held by the caller, whose path is `tokens`; the longest known prefix is shared.
  NodeId attach(std::span<const int32_t> tokens);
  // A new, empty tail below `parent`, held by the caller. It begins a block of its own.
  NodeId add_child(NodeId parent);
  // The same, going on in the free rest of the parent's last block. At most one per parent.
  NodeId add_continuation(NodeId parent);
  // Gives up a tail; its text may stay as cache.
  void release(NodeId tail);

  void append(NodeId tail, std::span<const int32_t> tokens);

  // Pins the path for a running branch; what is unpinned becomes cache.
  void pin(NodeId tail);
  void unpin(NodeId tail);

  // Makes sure that a pinned node has blocks for its first `count` tokens, dropping cached text if need be.
  // False, and nothing changed, when the pool is dry. The nodes above must have theirs.
  bool reserve(NodeId node, int32_t count);
  // Blocks that the path has not, and blocks that it has but nobody pins: both leave those available when it
  // runs.
  int32_t blocks_missing(NodeId tail) const;
  int32_t blocks_idle(NodeId tail) const;
  // Leading tokens of the path that need not be computed.
  int32_t computed_tokens(NodeId tail) const;

  // The path's nodes that hold tokens, root first.
  void path(NodeId tail, std::vector<NodeId>& out) const;

  KvNode& at(NodeId node) { return nodes_[static_cast<size_t>(node)]; }
  const KvNode& at(NodeId node) const { return nodes_[static_cast<size_t>(node)]; }
  const BlockPool& pool() const { return pool_; }

  // Recounts holders, pins, blocks, positions and the eviction order; throws Error{internal} saying what is
  // wrong.
  void check_integrity(std::span<const KvHolder> holders) const;

 private:
  NodeId add(NodeId parent, int32_t first_offset);
  NodeId split(NodeId node, int32_t count);
  void collect(NodeId node);
  void trim(NodeId node, int32_t blocks);
  void evict();
  bool evictable(NodeId node) const;
  void index(NodeId node);
  bool holds_blocks_below(NodeId node) const;

  BlockPool pool_;
  const bool prefix_cache_;
  std::vector<KvNode> nodes_;
  std::vector<NodeId> free_nodes_;
  std::set<std::pair<uint64_t, NodeId>>
      evictable_;  // by last use: unpinned nodes with blocks, none below has any
  uint64_t clock_ = 0;
};

}  // namespace apar
