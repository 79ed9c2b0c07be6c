// Rows of candidates (docs/adr/0047). The likeliest path of a branch lies in the slots behind its last token,
// where its tokens belong once they are accepted; all others lie in borrowed blocks.
#include <algorithm>
#include <tuple>
#include <utility>

#include "core/scheduler.h"

namespace apar {

void Scheduler::add_candidates(int32_t sample, std::span<const Candidate> offered) {
  if (offered.empty() || token_budget() == 0) return;
  const NodeId tail = samples_[static_cast<size_t>(sample)].branch->tail;
  int32_t deepest = 0;
  for (const Candidate& candidate : offered) deepest = std::max(deepest, candidate.depth + 1);
  const Placement to{sample, tail, reserve_behind(tail, deepest), offered};
  link(offered);
  for (int32_t first = first_child_.back(); first >= 0; first = next_one_[static_cast<size_t>(first)])
    place_run(to, first, -1, -1);
}

// Reserves slots for tokens behind the tail's, up to `depth`. Returns for how many there are.
int32_t Scheduler::reserve_behind(NodeId tail, int32_t depth) {
  const int32_t tokens = tree_.at(tail).num_tokens();
  while (depth > 0 && !tree_.reserve(tail, tokens + depth)) --depth;
  return depth;
}

// Links the candidates as lists of children in the order in which they are offered; the last list is that of
// the branch's own row.
void Scheduler::link(std::span<const Candidate> offered) {
  first_child_.assign(offered.size() + 1, -1);
  next_one_.assign(offered.size(), -1);
  for (size_t i = offered.size(); i-- > 0;) {
    const auto above = offered[i].parent < 0 ? offered.size() : static_cast<size_t>(offered[i].parent);
    next_one_[i] = std::exchange(first_child_[above], static_cast<int32_t>(i));
  }
}

// Borrows slots next to each other. Returns where they begin in the borrowed blocks, and how many there are,
// at most `count`.
std::pair<int32_t, int32_t> Scheduler::borrow_slots(int32_t count) {
  const int32_t begin = borrowed_used_;
  const auto room = [&] { return static_cast<int32_t>(borrowed_.size()) * kBlockTokens - begin; };
  while (room() < count) {
    // A block that is not in the list would not be given back.
    if (borrowed_.size() == borrowed_.capacity()) borrowed_.reserve(2 * borrowed_.size() + 1);
    const auto block = tree_.borrow();
    if (!block) break;
    borrowed_.push_back(*block);
  }
  count = std::min(count, room());
  borrowed_used_ += count;
  return {begin, count};
}

// Places the candidate `first` and those behind it that have no alternatives as one sequence, then what
// follows them. `above` and `parent` are the run and the row of its parent, -1 for the branch's own row.
void Scheduler::place_run(const Placement& to, int32_t first, int32_t above, int32_t parent) {
  const auto at = [&](int32_t index) -> const Candidate& { return to.offered[static_cast<size_t>(index)]; };
  const auto child_of = [&](int32_t index) { return first_child_[static_cast<size_t>(index)]; };
  const auto next_of = [&](int32_t index) { return next_one_[static_cast<size_t>(index)]; };
  const int32_t depth = at(first).depth;
  int32_t count = 1;
  for (int32_t next = child_of(first); next >= 0 && next_of(next) < 0; next = child_of(next)) ++count;
  count = std::min({count, token_budget(), to.depths - depth});
  if (count <= 0) return;

  const bool is_likeliest = above < 0 ? first_child_.back() == first : child_of(at(first).parent) == first;
  const bool follows_tail = is_likeliest && (above < 0 || runs_[static_cast<size_t>(above)].tail != kNoNode);
  const KvNode& tail = tree_.at(to.tail);
  int32_t begin = tail.first_offset + tail.num_tokens() + depth;  // slot in the blocks of the run
  if (!follows_tail) std::tie(begin, count) = borrow_slots(count);
  if (count == 0) return;
  const auto run = static_cast<int32_t>(runs_.size());
  runs_.push_back({follows_tail ? to.tail : kNoNode, begin, count, above});
  const int32_t end_position = add_sequence(to.sample, run, depth);

  const auto& blocks = follows_tail ? tail.blocks : borrowed_;
  int32_t last = first;
  for (int32_t i = 0, index = first; i < count; ++i, index = child_of(index)) {
    const auto block = static_cast<size_t>((begin + i) / kBlockTokens);
    const int32_t slot = blocks[block] * kBlockTokens + (begin + i) % kBlockTokens;
    candidates_.push_back({to.sample, parent, at(index).token, slot, index});
    logit_rows_.push_back(rows());
    tokens_.push_back(at(index).token);
    positions_.push_back(end_position - count + i);
    slots_.push_back(slot);
    parent = static_cast<int32_t>(candidates_.size()) - 1;
    last = index;
  }
  for (int32_t next = child_of(last); next >= 0; next = next_of(next)) place_run(to, next, run, parent);
}

// Adds the sequence of a run, `depth` candidates behind the branch's own row. Returns its context length.
int32_t Scheduler::add_sequence(int32_t sample, int32_t run, int32_t depth) {
  const auto own_index = static_cast<size_t>(sample_sequences_[static_cast<size_t>(sample)]);
  const SequenceRows own = sequences_[own_index];
  SequenceRows sequence;
  sequence.first_row = rows();
  sequence.num_rows = runs_[static_cast<size_t>(run)].count;
  sequence.path_begin = static_cast<int32_t>(path_.size());
  sequence.context_length = own.context_length + depth + sequence.num_rows;
  for (int32_t i = 0; i < own.path_length; ++i)
    path_.push_back(path_[static_cast<size_t>(own.path_begin + i)]);
  const auto runs_begin = static_cast<ptrdiff_t>(path_.size());
  for (int32_t each = run; each >= 0; each = runs_[static_cast<size_t>(each)].above)
    path_.push_back(static_cast<int32_t>(view_nodes_.size()) + each);
  std::reverse(path_.begin() + runs_begin, path_.end());
  sequence.path_length = static_cast<int32_t>(path_.size()) - sequence.path_begin;
  sequences_.push_back(sequence);
  sequence_owners_.push_back(samples_[static_cast<size_t>(sample)].request);
  return sequence.context_length;
}

void Scheduler::end_candidates() {
  runs_.clear();
  for (const CandidateRow& row : candidates_) {
    const Branch& branch = *samples_[static_cast<size_t>(row.sample)].branch;
    if (branch.state == BranchState::running) tree_.release_spare(branch.tail);
  }
  for (const int32_t block : borrowed_) tree_.give_back(block);
  borrowed_.clear();
  borrowed_used_ = 0;
}

}  // namespace apar
