#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/axis.h"
#include "common/model_config.h"
#include "ops/ops.h"

// What a Llama needs of its device: the layers, the buffers and the configuration of Ops. open_llama
// allocates them, and the plan of the memory (engine/memory_plan.h) counts them.
namespace apar {

// The most rows of one step, and of those that have logits: any of them, unless a smaller number is given.
struct StepRows {
  int32_t max = 0;
  int32_t max_with_logits = 0;

  StepRows(int32_t rows) : StepRows(rows, rows) {}
  StepRows(int32_t rows, int32_t with_logits) : max(rows), max_with_logits(with_logits) {}
};

// A linear layer [rows = outputs, cols = inputs] by the name of its tensor.
struct LinearLayer {
  std::string tensor;
  int64_t rows = 0;
  int64_t cols = 0;
  LinearAxes axes;
  std::string bias;   // the name of the bias's tensor [rows]; "" for a layer without bias
  bool gate = false;  // the next layer is `up`, and Ops::gated_matmul() multiplies with both
};

// Layer by layer q, k, v, o, gate, up, down; then the head.
std::vector<LinearLayer> linear_layers(const ModelConfig& config);

// The floats of all norms' weights.
uint64_t norm_weights(const ModelConfig& config);

// The buffers of a step, each of max_rows rows.
struct ActivationBuffers {
  struct Buffer {
    int64_t width = 0;
    Axis axis = Axis::whole;
  };
  Buffer x, logit_x;                   // the residual stream
  Buffer hidden;                       // output of a norm, attention or MLP
  Buffer q, attended, logit_attended;  // num_heads * head_dim
  Buffer k, v;                         // num_kv_heads * head_dim
  Buffer gate, up;                     // intermediate_size

  std::vector<Buffer> all() const {
    return {x, logit_x, hidden, q, attended, logit_attended, k, v, gate, up};
  }
};
ActivationBuffers activation_buffers(const ModelConfig& config);

// The embedding table is f32 beside f32 weights, else bf16.
constexpr const char* kEmbeddingTable = "model.embed_tokens.weight";
DType table_dtype(WeightFormat format);
// Layers that are stored as codes, or into which an adapter is merged, are computed to this, so that their
// weights are rounded only once: to the format.
DType decoded_dtype(WeightFormat format);

// The format that a layer gets beside others in `format`. AWQ and GPTQ do not quantise the output layer, so
// beside their layers int4_g128 leaves one that is stored in plain numbers in bf16.
WeightFormat layer_format(const LinearLayer& layer, const WeightTable& weights, WeightFormat format);

// The configuration of Ops for steps of these rows and a pool of num_blocks blocks. A row attends to no more
// tokens than the pool holds.
OpsConfig ops_config(const ModelConfig& config, KvFormat kv, int32_t num_blocks, const StepRows& rows);

}  // namespace apar
