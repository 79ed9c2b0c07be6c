// The batch of a step: its rows, and the views of the KV nodes on their paths.
#include <algorithm>

#include "core/scheduler.h"

namespace apar {

void Scheduler::clear_batch() {
  for (auto* rows : {&tokens_, &positions_, &slots_, &path_, &logit_rows_}) rows->clear();
  sequences_.clear();
  sequence_owners_.clear();
  views_.clear();
  for (const NodeId id : view_nodes_) view_index_[static_cast<size_t>(id)] = -1;
  view_nodes_.clear();
  samples_.clear();
  sample_sequences_.clear();
  candidates_.clear();
  prompt_rows_.clear();
  sample_logits_.clear();
}

int32_t Scheduler::add_rows(Request& request, NodeId id, int32_t first, int32_t count, size_t path_nodes) {
  const KvNode& node = tree_.at(id);
  SequenceRows sequence;
  sequence.first_row = static_cast<int32_t>(tokens_.size());
  sequence.num_rows = count;
  sequence.path_begin = static_cast<int32_t>(path_.size());
  sequence.path_length = static_cast<int32_t>(path_nodes);
  sequence.context_length = node.start + first + count;
  sequences_.push_back(sequence);
  sequence_owners_.push_back(&request);
  for (size_t i = 0; i < path_nodes; ++i) path_.push_back(view_of(branch_path_[i]));
  for (int32_t i = first; i < first + count; ++i) {
    tokens_.push_back(node.tokens[static_cast<size_t>(i)]);
    positions_.push_back(node.start + i);
    slots_.push_back(node.slot(i));
  }
  return static_cast<int32_t>(tokens_.size()) - 1;
}

int32_t Scheduler::view_of(NodeId id) {
  const auto i = static_cast<size_t>(id);
  if (view_index_.size() <= i) view_index_.resize(i + 1, -1);
  if (view_index_[i] < 0) {
    view_index_[i] = static_cast<int32_t>(view_nodes_.size());
    view_nodes_.push_back(id);
  }
  return view_index_[i];
}

// Puts the rows of prompts among those of samples, by row.
void Scheduler::merge_prompt_rows() {
  const std::vector<int32_t> of_samples = logit_rows_;
  for (const PromptRow& each : prompt_rows_) logit_rows_.push_back(each.row);
  std::sort(logit_rows_.begin(), logit_rows_.end());
  const auto place = [&](int32_t row) {
    const auto found = std::lower_bound(logit_rows_.begin(), logit_rows_.end(), row);
    return static_cast<int32_t>(found - logit_rows_.begin());
  };
  for (const int32_t row : of_samples) sample_logits_.push_back(place(row));
  for (PromptRow& each : prompt_rows_) each.logits = place(each.row);
}

size_t Scheduler::logits_of(int32_t sample) const {
  return static_cast<size_t>(sample_logits_.empty() ? sample : sample_logits_[static_cast<size_t>(sample)]);
}

const StepBatch& Scheduler::build_batch() {
  views_.clear();
  for (const NodeId id : view_nodes_) {
    const KvNode& node = tree_.at(id);
    views_.push_back({node.blocks, node.first_offset, node.computed + node.scheduled});
  }
  for (const CandidateRun& run : runs_) {
    const auto& blocks = run.tail == kNoNode ? borrowed_ : tree_.at(run.tail).blocks;
    const auto first = static_cast<size_t>(run.begin / kBlockTokens);
    views_.push_back({std::span(blocks).subspan(first), run.begin % kBlockTokens, run.count});
  }
  if (!prompt_rows_.empty()) merge_prompt_rows();
  batch_ = StepBatch{tokens_, positions_, slots_, sequences_, views_, path_, logit_rows_};
  return batch_;
}

}  // namespace apar
