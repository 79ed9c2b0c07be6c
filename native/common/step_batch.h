#pragma once

#include <cstdint>
#include <span>

namespace apar {

constexpr int32_t kBlockTokens = 16;  // tokens in one KV block

// The tokens of one node of the KV tree: token i of the node is in blocks[(first_offset + i) / 16] at offset
// (first_offset + i) % 16. After a fork the parent continues in the free part of its last block (first_offset
// > 0: the block is shared with the node above), the child starts a new block (first_offset == 0).
struct KvNodeView {
  std::span<const int32_t> blocks;
  int32_t first_offset = 0;  // 0..15
  int32_t num_tokens = 0;    // including those that this step writes
};

// Consecutive rows of one branch: one row in decoding, a chunk in prefill.
struct SequenceRows {
  int32_t first_row = 0;
  int32_t num_rows = 0;
  int32_t path_begin = 0;   // into StepBatch::path
  int32_t path_length = 0;  // nodes from the root to the branch's own node
  // Tokens that the last row attends to, including itself; row r attends to (num_rows - 1 - r) fewer.
  int32_t context_length = 0;
};

// Summed over the rows.
inline int64_t attended_tokens(const SequenceRows& sequence) {
  const int64_t rows = sequence.num_rows;
  return rows * sequence.context_length - rows * (rows - 1) / 2;
}

// One forward pass. A row is one token of one branch.
struct StepBatch {
  std::span<const int32_t> tokens;          // [rows]
  std::span<const int32_t> positions;       // [rows], 0-based along the branch's path
  std::span<const int32_t> slots;           // [rows] the KV slot that the row writes: block * 16 + offset
  std::span<const SequenceRows> sequences;  // covers all rows in order
  std::span<const KvNodeView> nodes;        // every node in use, once, also if several branches share it
  std::span<const int32_t> path;            // indices into nodes, root first, one sequence after another
  std::span<const int32_t> logit_rows;      // ascending indices of the rows whose logits are needed

  int32_t rows() const { return static_cast<int32_t>(tokens.size()); }
};

}  // namespace apar
