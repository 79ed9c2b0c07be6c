#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "common/step_batch.h"
#include "core/block_pool.h"

namespace apar {

using NodeId = int32_t;
constexpr NodeId kNoNode = -1;

// A run of tokens between two forks, and the blocks that hold their K and V.
struct KvNode {
  NodeId parent = kNoNode;
  int32_t start = 0;         // position of the first token in the path
  int32_t first_offset = 0;  // of the first token within blocks[0]
  int32_t computed = 0;      // leading tokens whose K and V are in the pool
  int32_t scheduled = 0;     // tokens after these that the current step computes
  int32_t ref_count = 0;     // branches whose tail this node is
  int32_t pins = 0;          // running branches whose path includes this node
  uint64_t last_used = 0;    // KvTree's clock when the last pin was removed
  std::vector<int32_t> tokens;
  std::vector<int32_t> blocks;  // of the computed and the scheduled tokens
  std::vector<NodeId> children;

  int32_t num_tokens() const { return static_cast<int32_t>(tokens.size()); }
  int32_t end() const { return start + num_tokens(); }
  int32_t pending() const { return num_tokens() - computed - scheduled; }
  int32_t slot(int32_t index) const {
    const int32_t at = first_offset + index;
    return blocks[static_cast<size_t>(at / kBlockTokens)] * kBlockTokens + at % kBlockTokens;
  }
};

// A branch's reference to its tail, for check_integrity().
struct TailReference {
  NodeId tail;
  bool pinned;
};

// The tokens and KV blocks of prompts, branches and the prefix cache, in one tree (a radix tree with an empty
// root). A branch is the chain of nodes from the root to its tail. Branches share the nodes of their common
// prefix, also across requests. Nodes that no running branch needs stay as prefix cache until their blocks
// are needed; the least recently used one is evicted first. A preempted branch, the next turn of a
// conversation and another request with the same prefix reuse them. Without a prefix cache only those of
// preempted branches stay. Not thread-safe.
class KvTree {
 public:
  KvTree(int32_t num_blocks, bool prefix_cache);

  // Returns a new tail with the path `tokens` and one reference, the caller's. Shares the longest known
  // prefix that leaves at most `max_partial` of the path's blocks partly empty: after a prefix that ends
  // within a block, the path goes on in a new one. Like the next two and append(), it throws std::bad_alloc
  // without a change of any path.
  NodeId attach(std::span<const int32_t> tokens, int32_t max_partial);
  // Returns a new, empty tail below `parent`, with one reference, the caller's. It starts a new block.
  NodeId add_child(NodeId parent);
  // As add_child(), but continues in the free part of the parent's last block. At most one per parent.
  NodeId add_continuation(NodeId parent);
  // Removes the caller's reference to a tail; its tokens may stay as prefix cache.
  void release(NodeId tail);

  void append(NodeId tail, std::span<const int32_t> tokens);

  // Pins the path of a running branch. Nodes without pins are prefix cache.
  void pin(NodeId tail);
  void unpin(NodeId tail);

  // Allocates blocks for the first `count` tokens of a pinned node and evicts prefix cache if necessary.
  // Returns false, and changes nothing, when there are too few blocks. The nodes above must already have
  // their blocks.
  bool reserve(NodeId node, int32_t count);
  // Releases the blocks of a pinned node behind its computed tokens.
  void release_spare(NodeId node);
  // A block outside the tree, pinned; evicts prefix cache if necessary. Returns nullopt when all blocks are
  // pinned. check_integrity() expects that it has been returned.
  std::optional<int32_t> borrow();
  void give_back(int32_t block);
  // Releases all blocks of the prefix cache, as those whose K and V may be wrong.
  void forget_cache();
  // Blocks that the path lacks, and unpinned blocks that it has. When the branch starts to run, both are no
  // longer available to others.
  int32_t blocks_missing(NodeId tail) const;
  int32_t blocks_idle(NodeId tail) const;
  // Tokens of the path whose K and V are in the pool.
  int32_t computed_tokens(NodeId tail) const;

  // The nodes of the path that have tokens, root first.
  void path(NodeId tail, std::vector<NodeId>& out) const;

  KvNode& at(NodeId node) { return nodes_[static_cast<size_t>(node)]; }
  const KvNode& at(NodeId node) const { return nodes_[static_cast<size_t>(node)]; }
  const BlockPool& pool() const { return pool_; }

  // Recounts references, pins, blocks, positions and the eviction order. `tails`: the references of all live
  // branches. Throws Error{internal} that names the first error.
  void check_integrity(std::span<const TailReference> tails) const;

 private:
  using EvictionOrder = std::set<std::pair<uint64_t, NodeId>>;

  NodeId add(NodeId parent, int32_t first_offset);
  NodeId split(NodeId node, int32_t count);
  void remove_unused(NodeId node);
  void trim(NodeId node, int32_t blocks);
  void evict();
  bool evictable(NodeId node) const;
  void update_eviction_order(NodeId node);
  bool has_blocks_below(NodeId node) const;

  BlockPool pool_;
  const bool prefix_cache_;
  std::vector<KvNode> nodes_;
  std::vector<NodeId> free_nodes_;
  // (last_used, node) of the unpinned nodes that have blocks and no node with blocks below them.
  EvictionOrder evictable_;
  uint64_t clock_ = 0;  // counts unpin() calls
};

}  // namespace apar
