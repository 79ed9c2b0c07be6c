#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "core/grammar.h"
#include "core/token_text.h"

namespace apar {

// Takes random answers of grammars, over the tokens of `text`, of which `ends` end an answer.
class Trial {
 public:
  Trial(const TokenText& text, const std::vector<int32_t>& ends);

  // Throws Error{invalid_request} when the masks of some answers take so long that other requests would wait
  // for them: repetitions of a pattern can make a state for each of their characters.
  void try_masks(const Grammar& grammar);

  // Nothing if it does not end after so many tokens.
  std::optional<std::string> answer(const Grammar& grammar, int max_tokens);

 private:
  // A random token of mask_, one of ends_ with probability `end` where there is one; -1 if it has none.
  int32_t draw(double end);
  bool ends(int32_t token) const;

  const TokenText& text_;
  const std::vector<int32_t>& ends_;
  std::vector<int32_t> mask_;
  const int32_t last_word_;  // the bits of the mask's last word that are tokens
  std::mt19937 random_{1};
};

}  // namespace apar
