#pragma once

#include <cstdint>
#include <vector>

#include "common/model_config.h"

namespace apar::test {

// A decoder's forward pass written from the papers alone, in double precision, over one whole sequence
// without a KV cache. It shares no code with the engine except ModelConfig and WeightTable.
class NaiveLlama {
 public:
  // round_to_bf16: rounds the weights of linear layers and embeddings as a bf16 engine does.
  NaiveLlama(const ModelConfig& config, const WeightTable& table, bool round_to_bf16 = false);

  // Logits [tokens, vocab_size]; row i depends on tokens 0..i.
  std::vector<double> logits(const std::vector<int32_t>& tokens) const;
  // The logits of a Medusa head of the checkpoint, [tokens, vocab_size], where chosen[i] was chosen from the
  // logits of tokens[i]. Tokens that the head does not know have -infinity.
  std::vector<double> head_logits(const std::vector<int32_t>& tokens, const std::vector<int32_t>& chosen,
                                  int32_t head) const;

 private:
  using Vector = std::vector<double>;
  struct Linear {
    Vector weight, bias;  // empty: no bias

    Vector operator()(const Vector& x) const;
  };
  struct MedusaHead {
    std::vector<Linear> blocks;
    Linear projection;
  };
  struct Layer {
    Vector attention_norm, mlp_norm, q_norm, k_norm;
    Linear q, k, v, o, gate, up, down;
    bool rotates = true;
  };

  // The output of the final norm, for each token.
  std::vector<Vector> hidden(const std::vector<int32_t>& tokens) const;
  Vector normalized(const Vector& x, const Vector& weight) const;
  // The norm of each head, unless `norm` is empty, and the rotation.
  void transform(Vector& heads, const Vector& norm, bool rotates, int32_t position) const;

  ModelConfig config_;
  Vector embedding_, final_norm_;
  Linear head_;
  std::vector<Layer> layers_;
  Linear next_token_;
  std::vector<MedusaHead> medusa_;
};

}  // namespace apar::test
