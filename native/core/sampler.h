#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/dry_penalty.h"

namespace apar {

// Parameters are named as in Hugging Face's generate(), frequency and presence penalty as in OpenAI's API.
// They are applied in vLLM's order: repetition, frequency and presence penalty, then DRY, temperature, min-p,
// top-k, top-p.
struct SamplerParams {
  float temperature = 0.0f;         // 0 is greedy
  float top_p = 1.0f;               // (0, 1]; 1 is off
  float min_p = 0.0f;               // [0, 1]; 0 is off
  float repetition_penalty = 1.0f;  // > 0; 1 is off; also applies to tokens of the prompt
  float frequency_penalty = 0.0f;   // subtracted for each occurrence of the token among the generated tokens
  float presence_penalty = 0.0f;    // subtracted once if the token was generated at all
  int32_t top_k = 0;                // 0 is off
  uint32_t seed = 0;
  DryParams dry = {};
  // Tokens with one of these texts, and those without text, keep their logits whatever repetition, frequency
  // and presence penalties say.
  std::vector<std::string> unpenalised_texts = {};
  // Of each token, whether it is one of them. Engine::submit sets it; nullptr: none is.
  std::shared_ptr<const std::vector<bool>> unpenalised = nullptr;

  // Whether sampling needs the tokens of the path.
  bool penalises() const {
    return repetition_penalty != 1.0f || frequency_penalty != 0.0f || presence_penalty != 0.0f || dry.on();
  }
  // Whether a TokenDraw has all of them, so that the device can sample (docs/adr/0010).
  bool fit_token_draw() const { return !penalises(); }
  // Throws Error{invalid_request}.
  void validate() const;
};

// Samples token ids from logits. The result depends only on the logits, the key and the position, so the text
// of a branch does not depend on what else is in the batch. Has scratch buffers: one sampler per thread.
class Sampler {
 public:
  // Penalties leave the logits of `exempt` alone: the control tokens, which are no text that could repeat.
  // Tokens outside the vocabulary, as -1, are none.
  explicit Sampler(int32_t vocab_size, std::array<int32_t, 2> exempt = {-1, -1});

  // `logits` [vocab_size] is overwritten; masked tokens have -inf. Returns -1 when no logit is finite or one
  // is NaN: the device has failed. `path` has the tokens of the branch, root first, split into spans; the
  // penalties need it. Its first `prompt_tokens` tokens are the prompt.
  int32_t sample(std::span<float> logits, const SamplerParams& params,
                 std::span<const std::span<const int32_t>> path, int32_t prompt_tokens, uint64_t key,
                 int32_t position);

 private:
  struct Candidate {
    float weight;
    int32_t token;
  };

  void new_stamp();
  bool is_exempt(int32_t token, const SamplerParams& params) const;
  void penalise_seen(std::span<float> logits, const SamplerParams& params,
                     std::span<const std::span<const int32_t>> path);
  void penalise_generated(std::span<float> logits, const SamplerParams& params,
                          std::span<const std::span<const int32_t>> path, int32_t prompt_tokens);
  int32_t sample_weighted(std::span<const float> logits, float max_logit, const SamplerParams& params,
                          double uniform);

  const std::array<int32_t, 2> exempt_;
  std::vector<uint32_t> seen_;  // [vocab_size] stamp_ of the last penalty pass that met the token
  uint32_t stamp_ = 0;
  std::vector<float> weights_;  // [vocab_size] of a draw
  std::vector<Candidate> candidates_;
  DryPenalty dry_;
};

// The uniform random number in [0, 1) for the token at `position` of the branch with `key`.
double uniform_at(uint64_t key, int32_t position);

// Keys of the random numbers: of a request's root branch, and of a child forked at `position` of the branch
// with `key`.
uint64_t root_key(uint32_t seed);
uint64_t child_key(uint64_t key, int32_t position);

}  // namespace apar
