#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace apar {

// The bytes that each token adds to a text, from the checkpoint's tokenizer. Empty if it is not known; then
// requests with stop strings are refused.
struct TokenText {
  std::vector<uint8_t> bytes;     // of all tokens, one after the other
  std::vector<uint32_t> offsets;  // [vocab + 1] where each token's bytes begin
  // Tokens whose bytes are part of calls of tools only; elsewhere they add nothing to a text.
  std::vector<int32_t> markers;
  // The tokenizer puts one space in front of an answer, which is not part of its text.
  bool drops_leading_space = false;
  // Text after a fork loses its leading line feeds when the branches are joined (shared/branch-tree.ts).
  bool mends_joints = false;

  bool known() const { return !offsets.empty(); }
  std::span<const uint8_t> of(int32_t token) const {
    return is_marker(token) ? std::span<const uint8_t>() : in_calls(token);
  }
  bool is_marker(int32_t token) const {
    return std::find(markers.begin(), markers.end(), token) != markers.end();
  }
  // What the token adds to an answer that may call tools.
  std::span<const uint8_t> in_calls(int32_t token) const {
    const auto i = static_cast<size_t>(token);
    return std::span(bytes).subspan(offsets[i], offsets[i + 1] - offsets[i]);
  }
};

}  // namespace apar
