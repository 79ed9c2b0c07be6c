#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace apar {

// The own tokens of a branch as the events of an answer report them: [Fork] in a parent, [Child] first in a
// child.
struct ForcedBranch {
  int32_t parent = -1;  // index of a branch before it; -1 for the root, which comes first
  std::vector<int32_t> tokens;
};

// What a request is made to answer, whatever the model would say (docs/adr/0071). Each branch but the root
// belongs to a [Fork] of its parent; those of one parent are in the order of its [Fork]s.
class ForcedAnswer {
 public:
  // `problem()` of the branches must be empty.
  ForcedAnswer(std::vector<ForcedBranch> branches, int32_t fork);

  // Why the branches are no answer; empty if they are one. `fork` and `child`: the control tokens.
  static std::string problem(const std::vector<ForcedBranch>& branches, int32_t fork, int32_t child,
                             int32_t vocab_size);

  const std::vector<int32_t>& tokens(int32_t branch) const { return at(branch).tokens; }
  // Of the [Fork] that is token `position` of the branch.
  int32_t child(int32_t branch, int32_t position) const;

 private:
  const ForcedBranch& at(int32_t branch) const { return branches_[static_cast<size_t>(branch)]; }

  const std::vector<ForcedBranch> branches_;
  const int32_t fork_;
  std::vector<std::vector<int32_t>> children_;  // [branch]
};

// How far a branch of a request is in its forced answer. After a [Fork] that was refused it has the child's
// tokens, then its own again: document order, as in an answer that did not fork there.
class ForcedCursor {
 public:
  explicit ForcedCursor(const ForcedAnswer& answer, int32_t branch = 0)
      : answer_(&answer), places_{{branch, 0}} {}

  // The next token; nullopt at the end of the branch.
  std::optional<int32_t> next();
  // The branch has got next().
  void advance() { ++places_.back().position; }
  // The branch must not have next(), which is a [Fork].
  void refuse_fork();
  // Of the child of the [Fork] that the branch has just got.
  ForcedCursor of_child() const;

 private:
  struct Place {
    int32_t branch;
    int32_t position;  // of the next token
  };

  const ForcedAnswer* answer_;
  std::vector<Place> places_;  // the last one is current; the others go on behind it
};

}  // namespace apar
