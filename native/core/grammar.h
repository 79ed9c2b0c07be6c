#pragma once

#include <cstdint>
#include <memory>
#include <span>

namespace apar {

// Follows the tokens of one branch.
class Matcher {
 public:
  virtual ~Matcher() = default;
  // Replaces `mask` [(vocab + 31) / 32]: bit i % 32 of word i / 32 says whether token i may come next.
  virtual void fill(std::span<int32_t> mask) = 0;
  // Returns whether the token may come next; else nothing changes.
  virtual bool accept(int32_t token) = 0;
};

// What an answer must match, compiled for the model's vocabulary. The tokens that end an answer may come
// where it is complete. Shared by requests: thread-safe.
class Grammar {
 public:
  virtual ~Grammar() = default;
  virtual std::unique_ptr<Matcher> matcher() const = 0;
};

}  // namespace apar
