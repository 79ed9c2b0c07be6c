#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace apar {

// Finds where the end of a text occurred before, in it or in other texts: hash chains as in LZ77 compressors
// (RFC 1951, section 4), over pairs of tokens and, for longer matches, over four. Adding a token takes
// constant time; a search looks at kMaxTries places. When there are more than `max_tokens` tokens, the first
// half of each text is forgotten. About 50 bytes per token.
class NgramIndex {
 public:
  static constexpr size_t kMaxTokens = 1 << 16;
  static constexpr int32_t kMaxLength = 32;  // of a match
  static constexpr int32_t kShortest = 2;
  static constexpr int32_t kMaxTries = 16;

  explicit NgramIndex(size_t max_tokens = kMaxTokens) : max_tokens_(max_tokens) {}

  // Texts are numbered from 0; the first token of a text creates it.
  void append(int32_t text, std::span<const int32_t> tokens);

  // Replaces `out` by the tokens that followed the longest earlier occurrence of the end of `text`, at most
  // `count`; of occurrences of the same length, the latest. A text that repeats itself goes on doing so.
  // Returns the length of the match, kShortest to kMaxLength; 0 if there is none.
  int32_t continue_text(int32_t text, size_t count, std::vector<int32_t>& out) const;

  size_t num_tokens() const { return num_tokens_; }

 private:
  struct Place {
    int32_t text = -1;
    int32_t last = 0;  // index of the last token of an n-gram
  };
  struct Text {
    std::vector<int32_t> tokens;
    std::vector<std::array<Place, 2>> earlier;  // [token][level]: the chain behind the n-gram that ends here
  };
  struct Match {
    Place place;
    int32_t length = 0;
  };

  static uint64_t hash(const Text& text, size_t last, int32_t length);
  void add(int32_t text, int32_t token);
  void insert(int32_t text, size_t last);
  void rebuild();
  void forget_half();
  int32_t common_length(const Text& text, const Place& place) const;
  Match longest(int32_t text, size_t level) const;

  size_t max_tokens_;
  size_t num_tokens_ = 0;
  std::vector<Text> texts_;
  std::array<std::vector<Place>, 2> newest_;  // [level][hash]; a power of two
};

}  // namespace apar
