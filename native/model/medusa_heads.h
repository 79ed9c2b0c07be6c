#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "common/draft.h"
#include "common/model_config.h"
#include "model/medusa_layout.h"
#include "model/weights.h"
#include "ops/ops.h"

namespace apar {

// What MedusaHeads are made of. All of it must outlive them.
struct MedusaSource {
  const ModelConfig& config;
  const WeightTable& table;
  Weights& weights;
  Ops& ops;
  WeightFormat format = WeightFormat::f32;
  Matrix embedding;  // the decoder's own table
  Linear lm_head;    // the same
  int32_t max_rows = 0;
};

// The Medusa heads of a checkpoint (arXiv 2401.10774) on the device of its decoder. Without heads in the
// configuration this object does nothing.
class MedusaHeads {
 public:
  using Loaded = std::function<void(uint64_t bytes)>;

  // Loads the heads' weights, in the decoder's format. `loaded` is called with the bytes of each matrix.
  // Throws what Weights and Ops throw.
  MedusaHeads(const MedusaSource& source, const Loaded& loaded);

  // As Model::draft(). hidden[logit rows, hidden_size] is the output of the decoder's final norm, in memory
  // of the device.
  void draft(const float* hidden, std::span<const DraftRow> rows, int32_t top_k,
             std::span<DraftCandidate> out);

 private:
  struct Block {
    Linear w;
    const float* bias = nullptr;
  };
  struct Head {
    std::vector<Block> blocks;
    float *residual = nullptr, *block = nullptr;  // MedusaBuffers
  };

  Linear place(const MedusaSource& source, const LinearLayer& layer, const Loaded& loaded);
  void run_blocks(const float* hidden, std::span<const DraftRow> rows);
  void add_next_tokens(std::span<const DraftRow> rows);
  void multiply_first(int32_t rows);

  MedusaConfig config_;
  int32_t hidden_size_, pass_rows_;
  Ops& ops_;
  Matrix embedding_;
  Linear next_token_;  // without data: heads do not read it
  std::vector<Head> heads_;
  std::vector<Linear> projections_;  // [num_heads]
  float *picked_ = nullptr, *inputs_ = nullptr;
  std::vector<int32_t> picks_;  // scratch
  std::vector<TokenLogit> top_;
  std::vector<float> log_sums_;
};

}  // namespace apar
