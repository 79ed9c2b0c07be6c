#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/block_pool.h"
#include "model/step_batch.h"

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
  int32_t refs = 0;          // child nodes, plus branches that end here
  int32_t pins = 0;          // running branches whose path goes through here
  std::vector<int32_t> tokens;
  std::vector<int32_t> blocks;

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

// All branches' tokens and KV blocks. A branch is the chain of nodes from a root to its tail; branches share
// the nodes of their common prefix. Tokens stay as long as a branch needs them; blocks only while a running
// branch pins them, so that a branch can be set aside and recomputed later. Not thread-safe.
class KvTree {
 public:
  explicit KvTree(int32_t num_blocks) : pool_(num_blocks) {}

  // A new, empty node with one reference, owned by the caller. It begins a block of its own.
  NodeId add_root() { return add(kNoNode, 0, 0); }
  NodeId add_child(NodeId parent);
  // The same, going on in the free rest of the parent's last block. At most one per parent.
  NodeId add_continuation(NodeId parent);
  // Gives up the caller's reference; nodes that nobody needs go, up to the root.
  void release(NodeId tail);

  void append(NodeId node, std::span<const int32_t> tokens);

  // Pins the path for a running branch; unpinning frees the blocks that no running branch needs.
  void pin(NodeId tail);
  void unpin(NodeId tail);

  // Makes sure that the node has blocks for its first `count` tokens. False, and nothing changed, when the
  // pool is dry. The nodes above must have theirs.
  bool reserve(NodeId node, int32_t count);
  // Blocks that reserving the whole path would take.
  int32_t blocks_missing(NodeId tail) const;

  // The path's nodes that hold tokens, root first.
  void path(NodeId tail, std::vector<NodeId>& out) const;

  KvNode& at(NodeId node) { return nodes_[static_cast<size_t>(node)]; }
  const KvNode& at(NodeId node) const { return nodes_[static_cast<size_t>(node)]; }
  const BlockPool& pool() const { return pool_; }
  int32_t num_nodes() const { return static_cast<int32_t>(nodes_.size() - free_nodes_.size()); }

  // Recounts references, pins, blocks and positions; throws Error{internal} saying what is wrong.
  void check_integrity(std::span<const KvHolder> holders) const;

 private:
  NodeId add(NodeId parent, int32_t start, int32_t first_offset);
  void free_blocks(KvNode& node);

  BlockPool pool_;
  std::vector<KvNode> nodes_;
  std::vector<NodeId> free_nodes_;
};

}  // namespace apar
