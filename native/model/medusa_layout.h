#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "common/model_config.h"
#include "model/llama_layout.h"

// The tensors and buffers of Medusa heads, for model/medusa_heads.h and the plan of the memory.
namespace apar {

// The linear layers of all heads, in the order in which they are used: of every head its residual blocks, and
// then its projection, unless that is the decoder's lm_head. Names are those of the reference implementation,
// behind "medusa.": medusa.0.0.linear.weight, medusa.0.0.linear.bias, ..., medusa.0.1.weight. A projection
// has the decoder's vocab_size, also if MedusaConfig::vocab_size is smaller. What reads the next token comes
// first: medusa.next_token.weight.
std::vector<LinearLayer> medusa_layers(const ModelConfig& config);

// For each layer the first one whose weights are the same bytes: a layer's own index unless residual blocks
// share their weights, as those of published heads do.
std::vector<size_t> shared_weights(const std::vector<LinearLayer>& layers, const WeightTable& table);

// The table without the heads and the files that only they use: what the cache of the decoder's packed layers
// is made from, so that it is the same with and without heads.
WeightTable decoder_weights(const WeightTable& table);

// The bytes of the heads' matrices in the checkpoint, shared ones once.
uint64_t medusa_bytes(const WeightTable& table);

// Rows that one pass computes for each head. draft() takes more in several passes, so that buffers for many
// rows of a large vocabulary are not needed.
int32_t rows_per_head(const MedusaConfig& medusa, int32_t max_rows);

// The floats of each buffer, of Axis::whole.
struct MedusaBuffers {
  uint64_t picked = 0;    // one: [rows_per_head, hidden]
  uint64_t residual = 0;  // one per head: the same
  uint64_t block = 0;     // one per head: the same, the output of a block's linear layer
  uint64_t inputs = 0;    // one: [num_heads, rows_per_head, hidden], of the projections

  std::vector<uint64_t> all(const MedusaConfig& medusa) const;
};
MedusaBuffers medusa_buffers(const ModelConfig& config, int32_t max_rows);

}  // namespace apar
