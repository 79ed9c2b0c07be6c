#include "model/batch_check.h"

#include <string>

#include "common/error.h"

namespace apar {
namespace {

void require(bool condition, const char* what) {
  if (!condition) throw Error(ErrorCode::internal, std::string("step batch: ") + what);
}

bool within(int64_t value, int64_t end) {
  return value >= 0 && value < end;
}

void check_nodes(const StepBatch& batch, const BatchLimits& limits) {
  for (const KvNodeView& node : batch.nodes) {
    require(within(node.first_offset, kBlockTokens) && node.num_tokens >= 0, "node out of range");
    const int64_t end = int64_t{node.first_offset} + node.num_tokens;
    require(node.num_tokens == 0 || end <= static_cast<int64_t>(node.blocks.size()) * kBlockTokens,
            "node longer than its blocks");
    for (const int32_t block : node.blocks) require(within(block, limits.num_blocks), "block out of range");
  }
}

void check_sequence(const StepBatch& batch, const SequenceRows& sequence, const BatchLimits& limits) {
  require(sequence.path_begin >= 0 && sequence.path_length >= 0 &&
              int64_t{sequence.path_begin} + sequence.path_length <= static_cast<int64_t>(batch.path.size()),
          "path out of range");
  int64_t tokens = 0;
  for (const int32_t node : batch.path.subspan(sequence.path_begin, sequence.path_length)) {
    require(within(node, static_cast<int64_t>(batch.nodes.size())), "node index out of range");
    tokens += batch.nodes[node].num_tokens;
  }
  require(tokens <= limits.max_context, "path longer than the context");
  require(sequence.num_rows >= 1 && sequence.context_length >= sequence.num_rows &&
              sequence.context_length <= tokens,
          "context length does not fit the path");
  for (int32_t i = 0; i < sequence.num_rows; ++i)
    require(batch.positions[sequence.first_row + i] == sequence.context_length - sequence.num_rows + i,
            "position does not fit the context length");
}

}  // namespace

void check_batch(const StepBatch& batch, size_t num_logits, const BatchLimits& limits) {
  const size_t rows = batch.tokens.size();
  require(rows >= 1 && rows <= static_cast<size_t>(limits.max_rows), "too few or too many rows");
  require(batch.positions.size() == rows && batch.slots.size() == rows, "arrays of different lengths");
  for (const int32_t token : batch.tokens) require(within(token, limits.vocab_size), "token out of range");
  for (const int32_t slot : batch.slots)
    require(within(slot, int64_t{limits.num_blocks} * kBlockTokens), "slot out of range");
  check_nodes(batch, limits);
  int64_t row = 0;
  for (const SequenceRows& sequence : batch.sequences) {
    require(sequence.first_row == row && sequence.num_rows <= static_cast<int64_t>(rows) - row,
            "sequences do not cover the rows in order");
    check_sequence(batch, sequence, limits);
    row += sequence.num_rows;
  }
  require(row == static_cast<int64_t>(rows), "sequences do not cover the rows in order");
  require(batch.logit_rows.size() <= static_cast<size_t>(limits.max_logit_rows), "too many logit rows");
  int64_t previous = -1;
  for (const int32_t logit_row : batch.logit_rows) {
    require(logit_row > previous && within(logit_row, static_cast<int64_t>(rows)),
            "logit rows not ascending");
    previous = logit_row;
  }
  require(num_logits == batch.logit_rows.size() * static_cast<size_t>(limits.vocab_size),
          "wrong size of the logits");
}

void check_draft(std::span<const DraftRow> rows, int32_t top_k, size_t num_candidates,
                 const DraftLimits& limits) {
  require(limits.heads > 0, "the model has no draft heads");
  require(top_k >= 1 && top_k <= kMaxDraftTokens, "too few or too many candidates of a head");
  for (const DraftRow& row : rows) {
    require(within(row.logit_row, limits.logit_rows), "no logit row of the last step");
    require(within(row.token, limits.vocab_size), "token out of range");
  }
  require(num_candidates == rows.size() * static_cast<size_t>(limits.heads) * static_cast<size_t>(top_k),
          "wrong size of the candidates");
}

void check_copies(std::span<const SlotCopy> copies, int32_t num_blocks) {
  const int64_t slots = int64_t{num_blocks} * kBlockTokens;
  for (const auto& [from, to] : copies)
    require(within(from, slots) && within(to, slots), "slot out of range");
}

}  // namespace apar
