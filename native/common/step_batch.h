#pragma once

#include <cstdint>
#include <span>

namespace apar {

constexpr int32_t kBlockTokens = 16;  // tokens in one KV block

// The tokens of one node of the KV tree: token i of the node lies in blocks[(first_offset + i) / 16] at
// offset (first_offset + i) % 16. After a fork the parent goes on in the free rest of its last block
// (first_offset > 0, the block is shared with the node above), a child starts a block of its own
// (first_offset == 0).
struct KvNodeView {
  std::span<const int32_t> blocks;
  int32_t first_offset = 0;  // 0..15
  int32_t num_tokens = 0;    // those that this step writes included
};

// Consecutive rows of one branch: one row when it decodes, a chunk when it is prefilled.
struct SequenceRows {
  int32_t first_row = 0;
  int32_t num_rows = 0;
  int32_t path_begin = 0;   // into StepBatch::path
  int32_t path_length = 0;  // nodes from the root to the branch's own node
  int32_t context_length =
      0;  // tokens that the last row attends to, itself included; row r sees (num_rows-1-r) fewer
};

// One forward pass. A row is one token of one branch.
struct StepBatch {
  std::span<const int32_t> tokens;          // [rows]
  std::span<const int32_t> positions;       // [rows], 0-based along the branch's path
  std::span<const int32_t> slots;           // [rows] where the row's K and V go: block * 16 + offset
  std::span<const SequenceRows> sequences;  // covers all rows in order
  std::span<const KvNodeView> nodes;        // every node in use, once, however many branches share it
  std::span<const int32_t> path;            // node indices, root first, sequence after sequence
  std::span<const int32_t> logit_rows;      // ascending rows whose logits are wanted

  int32_t rows() const { return static_cast<int32_t>(tokens.size()); }
};

}  // namespace apar
