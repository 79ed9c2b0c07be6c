#include "core/forced_answer.h"

#include <algorithm>
#include <utility>

namespace apar {
namespace {

ptrdiff_t forks_before(const std::vector<int32_t>& tokens, int32_t position, int32_t fork) {
  return std::count(tokens.begin(), tokens.begin() + position, fork);
}

}  // namespace

ForcedAnswer::ForcedAnswer(std::vector<ForcedBranch> branches, int32_t fork)
    : branches_(std::move(branches)), fork_(fork), children_(branches_.size()) {
  for (size_t i = 1; i < branches_.size(); ++i)
    children_[static_cast<size_t>(branches_[i].parent)].push_back(static_cast<int32_t>(i));
}

std::string ForcedAnswer::problem(const std::vector<ForcedBranch>& branches, int32_t fork, int32_t child,
                                  int32_t vocab_size) {
  std::vector<int64_t> children(branches.size(), 0);
  for (size_t i = 0; i < branches.size(); ++i) {
    const auto& [parent, tokens] = branches[i];
    const std::string name = std::to_string(i);
    if (i == 0 ? parent != -1 : parent < 0 || parent >= static_cast<int32_t>(i))
      return name + (i == 0 ? " must be the root" : " has no parent before it");
    if (i > 0) ++children[static_cast<size_t>(parent)];
    for (const int32_t token : tokens)
      if (token < 0 || token >= vocab_size) return name + " has a token outside the vocabulary";
    const bool begins = i > 0 && (tokens.empty() || tokens.front() != child);
    if (begins || (child >= 0 && std::count(tokens.begin(), tokens.end(), child) != (i > 0 ? 1 : 0)))
      return name + " must have [Child] as its first token, the root none";
  }
  for (size_t i = 0; i < branches.size(); ++i) {
    const auto& tokens = branches[i].tokens;
    const int64_t forks = fork < 0 ? 0 : std::count(tokens.begin(), tokens.end(), fork);
    if (forks != children[i])
      return std::to_string(i) + " has " + std::to_string(forks) + " [Fork] and " +
             std::to_string(children[i]) + " children";
  }
  return "";
}

int32_t ForcedAnswer::child(int32_t branch, int32_t position) const {
  const auto index = static_cast<size_t>(forks_before(tokens(branch), position, fork_));
  return children_[static_cast<size_t>(branch)][index];
}

std::optional<int32_t> ForcedCursor::next() {
  const auto ended = [this](const Place& place) {
    return place.position >= static_cast<int32_t>(answer_->tokens(place.branch).size());
  };
  while (places_.size() > 1 && ended(places_.back())) places_.pop_back();
  const Place& place = places_.back();
  if (ended(place)) return std::nullopt;
  return answer_->tokens(place.branch)[static_cast<size_t>(place.position)];
}

void ForcedCursor::refuse_fork() {
  const Place at = places_.back();
  advance();
  places_.push_back({answer_->child(at.branch, at.position), 1});  // without [Child]
}

ForcedCursor ForcedCursor::of_child() const {
  const Place& place = places_.back();
  return ForcedCursor(*answer_, answer_->child(place.branch, place.position - 1));
}

}  // namespace apar
