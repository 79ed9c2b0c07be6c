#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace apar {

// "Don't repeat yourself" (text-generation-webui's sampler, named as in llama.cpp): a token that would go on
// with a sequence of at least `allowed_length` tokens that the text has had already loses
// multiplier * base^(length - allowed_length). Unlike a penalty for each token that was there, it leaves the
// tokens of lists and code alone.
struct DryParams {
  float multiplier = 0.0f;      // 0 is off
  float base = 1.75f;           // >= 1
  int32_t allowed_length = 2;   // > 0
  int32_t penalty_last_n = -1;  // looks at so many tokens of the path, prompt included; -1: at all
  std::vector<std::string> sequence_breakers = {};  // texts at which sequences end
  // Of each token, whether it has such a text: sequences end before it, and it is never penalised.
  // Engine::submit sets it; nullptr: none has.
  std::shared_ptr<const std::vector<bool>> breakers = nullptr;

  bool on() const { return multiplier != 0.0f; }
  bool breaks(int32_t token) const {
    return breakers && static_cast<size_t>(token) < breakers->size() &&
           (*breakers)[static_cast<size_t>(token)];
  }
  // Throws Error{invalid_request}.
  void validate() const;
};

// Applies DryParams to logits. Has scratch buffers: one for each thread.
class DryPenalty {
 public:
  // `path`: the tokens of the branch, root first. Takes time in proportion to its length.
  void apply(std::span<float> logits, const DryParams& params,
             std::span<const std::span<const int32_t>> path);

 private:
  struct Repeat {
    int32_t token;
    int32_t length;
  };

  void find_matches();

  std::vector<int32_t> recent_;   // the path's end, last token first
  std::vector<int32_t> matches_;  // [recent_] how many tokens from each on are those from the first on
  std::vector<Repeat> repeats_;
};

}  // namespace apar
