#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace apar {

// Terms as in Hugging Face's generate and, for the two penalties by count, OpenAI's API; order as in vLLM:
// repetition, frequency and presence penalty, temperature, min-p, top-k, top-p.
struct SamplerParams {
  float temperature = 0.0f;         // 0 is greedy
  float top_p = 1.0f;               // (0, 1]; 1 is off
  float min_p = 0.0f;               // [0, 1]; 0 is off
  float repetition_penalty = 1.0f;  // > 0; 1 is off; counts the prompt as well
  float frequency_penalty = 0.0f;   // taken off a logit for each time the path's answer has the token
  float presence_penalty = 0.0f;    // taken off once if it has it at all
  int32_t top_k = 0;                // 0 is off
  uint32_t seed = 0;

  // Whether a draw needs the path's tokens.
  bool penalises() const {
    return repetition_penalty != 1.0f || frequency_penalty != 0.0f || presence_penalty != 0.0f;
  }
};

// Draws token ids from logits. A draw depends on (key, position) and the logits alone, so that a branch's
// text does not change with what runs beside it. Keeps scratch buffers; one per engine thread.
class Sampler {
 public:
  explicit Sampler(int32_t vocab_size);

  // `logits` [vocab_size] is overwritten. Banned tokens are -inf already. Returns -1 when no logit is finite
  // or one is NaN: the device has failed. `path`: the branch's tokens, for the penalties, in pieces, root
  // first; its first `prompt_tokens` are the prompt's.
  int32_t sample(std::span<float> logits, const SamplerParams& params,
                 std::span<const std::span<const int32_t>> path, int32_t prompt_tokens, uint64_t key,
                 int32_t position);

 private:
  struct Candidate {
    float weight;
    int32_t token;
  };

  void new_stamp();
  void penalise_seen(std::span<float> logits, float penalty, std::span<const std::span<const int32_t>> path);
  void penalise_generated(std::span<float> logits, const SamplerParams& params,
                          std::span<const std::span<const int32_t>> path, int32_t prompt_tokens);
  int32_t draw(std::span<const float> logits, float max_logit, const SamplerParams& params, double uniform);

  std::vector<uint32_t> seen_;  // stamp of the last call that penalised a token
  uint32_t stamp_ = 0;
  std::vector<Candidate> candidates_;
};

// The number in [0, 1) that draws the token at `position` of the branch with `key`.
double uniform_at(uint64_t key, int32_t position);

// The key of a request's root branch, and of a child that forked at `position` of a branch with `key`.
uint64_t root_key(uint32_t seed);
uint64_t child_key(uint64_t key, int32_t position);

}  // namespace apar
