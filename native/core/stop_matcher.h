#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace apar {

// The stop strings of a request, prepared for matching (Knuth, Morris, Pratt 1977).
class StopStrings {
 public:
  StopStrings() = default;
  // In UTF-8, none empty.
  explicit StopStrings(const std::vector<std::string>& strings);

  bool empty() const { return strings_.empty(); }
  size_t size() const { return strings_.size(); }

  // Advances string `i`, of which `matched` bytes were at the end of the text, by one byte. Returns how many
  // are now.
  uint32_t advance(size_t i, uint32_t matched, uint8_t byte) const;
  bool complete(size_t i, uint32_t matched) const { return matched == strings_[i].bytes.size(); }

 private:
  struct Prepared {
    std::string bytes;
    std::vector<uint32_t>
        border;  // [n]: length of the longest proper border of the first n bytes; border[0] = 0
  };
  std::vector<Prepared> strings_;
};

// Finds the first stop string in the text of one branch, at the token that completes it. Sees the text as
// clients do (gpu-node/text/branch-decoder.ts): invalid and incomplete UTF-8 is U+FFFD, as in the WHATWG
// decoder.
class StopMatcher {
 public:
  // A new branch. `drop_space`: the text lacks a space at its start.
  void begin(const StopStrings& stops, bool drop_space);
  // Adds the bytes of a token. Returns true when a stop string is complete.
  bool push(const StopStrings& stops, std::span<const uint8_t> bytes);
  // Ends an incomplete character, at a fork. Returns true when that completes a stop string.
  bool flush(const StopStrings& stops);
  // The text that follows is not next to the text before it. `skip_line_feeds`: it loses those at its start.
  void restart(bool skip_line_feeds);

 private:
  bool decode(const StopStrings& stops, uint8_t byte);
  bool replace(const StopStrings& stops);
  bool match(const StopStrings& stops, uint8_t byte);

  std::vector<uint32_t> matched_;  // [stops.size()] bytes of each stop string at the end of the text
  bool drop_space_ = false;
  bool skip_line_feeds_ = false;
  // The incomplete character at the end of the text.
  std::array<uint8_t, 4> pending_{};
  uint8_t pending_size_ = 0;
  uint8_t needed_ = 0;             // further bytes of it
  uint8_t lower_ = 0, upper_ = 0;  // bounds of the next one
};

}  // namespace apar
