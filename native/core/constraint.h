#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/grammar.h"

namespace apar {

// Which tokens a branch may sample next (docs/adr/0062).
class Constraint {
 public:
  Constraint(const Grammar& grammar, int32_t vocab_size);

  // The branch has got the token.
  void accept(int32_t token);
  // Makes the mask of the next token unless it is made: what may be done beside a forward pass.
  void prepare();
  bool prepared() const { return prepared_; }
  // After prepare(): gives -inf to the logits [vocab] of all other tokens.
  void apply(std::span<float> logits) const;
  // After prepare(): whether a token that is none of `ends`, which are different ones, may come next.
  bool allows_other_than(std::span<const int32_t> ends) const;
  // After prepare(): whether any token may come next. False also when the grammar engine has failed.
  bool allows_any() const { return allows_other_than({}); }

 private:
  bool allows(int32_t token) const;

  const std::unique_ptr<Matcher> matcher_;
  std::vector<int32_t> mask_;  // as Matcher::fill has it
  const int32_t last_word_;    // the bits of its last word that are tokens
  bool prepared_ = false;
  bool failed_ = false;
};

}  // namespace apar
