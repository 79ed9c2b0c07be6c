#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/axis.h"
#include "common/draft.h"
#include "common/matrix.h"
#include "common/step_batch.h"
#include "common/token_draw.h"

namespace apar {

// What a device needs to know before the first step: the shape of the attention and the size of its KV pool.
struct OpsConfig {
  int32_t num_layers = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;                  // divides num_heads
  int32_t head_dim = 0;                      // even
  std::vector<float> rope_frequencies = {};  // as in ModelConfig
  float rope_scale = 1.0f;
  KvFormat kv_format = KvFormat::f32;
  int32_t num_blocks = 0;  // of kBlockTokens tokens, shared by all branches
  int32_t max_rows = 0;    // rows of one step
  // Rows of one step that have logits; 0: any. A product with the vocabulary takes no more rows.
  int32_t max_logit_rows = 0;
  int32_t max_context = 0;  // tokens a row may attend to
  int64_t max_inputs = 0;   // of any linear layer
  bool time_steps = false;  // for Ops::step_seconds()
  int32_t draft_rows = 0;   // rows of one top_tokens(), all heads together; 0: it is not called
  // Only devices that share a model use these.
  int32_t hidden_size = 0;
  int32_t intermediate_size = 0;
  int32_t vocab_size = 0;

  int32_t logit_rows() const { return max_logit_rows == 0 ? max_rows : max_logit_rows; }
};

// One linear layer of a matmul call: y[rows, w.rows] = x[rows, w.cols] · w^T + bias.
struct Projection {
  Linear w;
  float* y = nullptr;
  const float* bias = nullptr;  // [w.rows], from place(); null: none
};

// The layers of a gated MLP, from place_gated().
struct GatedLinears {
  Linear gate, up;
};

// The most projections of one matmul call.
constexpr size_t kMaxProjections = 3;

// A token and its logit; {-1, -infinity}: there is none.
struct TokenLogit {
  int32_t token = -1;
  float logit = 0;
};

// What a layer does to every query and key head before attention: a norm as in rms_norm(), then the rotation.
struct HeadTransform {
  const float* q_norm = nullptr;  // weights [head_dim], from place(); null: no norm
  const float* k_norm = nullptr;
  float norm_eps = 0;
  bool rotate = true;
};

// The operations of a Llama forward pass on one device, which also owns the KV pool and chooses its layout.
//
// Activations are f32, row-major, without padding, in memory from allocate(). Every operation treats its rows
// independently: the bits of a row depend neither on the other rows of the call, nor on the number of
// threads, nor on how the KV tree is cut into nodes. Calls come from one thread and take effect in order;
// Error{internal} reports a device failure. The caller has checked the batch (model/batch_check.h) and the
// shapes.
class Ops {
 public:
  virtual ~Ops() = default;

  // A name for display, such as "cpu avx512 x2".
  virtual std::string device() const = 0;

  // Allocates `count` zeroed floats on the device, for rows along `axis` of the model. They are freed with
  // this object. Throws Error{out_of_memory}.
  virtual float* allocate(size_t count, Axis axis) = 0;

  // Makes a vector (f32), whose elements lie along `axis` of the model, or an embedding table (f32 or bf16,
  // Axis::whole) readable for this device and returns where. The CPU reads the host's memory in place, so
  // that memory must outlive this object.
  virtual Matrix place(const Matrix& host, Axis axis) = 0;

  // Brings a linear layer, whose outputs and inputs lie along `axes` of the model, into the form that this
  // device multiplies with: packed, converted or quantised from any dtype, freed with this object. The CPU
  // reads f32 weights for format f32 in place, so the host's memory must outlive this object. Throws
  // Error{out_of_memory}, and Error{unavailable} for a format that the device lacks.
  virtual Linear place_linear(const Matrix& host, WeightFormat format, LinearAxes axes) = 0;

  // The name and version of the layout of place_linear()'s data, if that data is packed_bytes() of host
  // memory which another process can use unchanged (at a multiple of 64 bytes); "" if not.
  virtual std::string packed_layout() const { return ""; }
  virtual size_t packed_bytes(WeightFormat /*format*/, int64_t /*rows*/, int64_t /*cols*/) const { return 0; }

  // Whether place_gated() does more than place_linear() of both layers. If not, a caller can place them one
  // after the other, with less of the host's memory.
  virtual bool places_pairs() const { return false; }

  // Places gate and up, the layers of gated_matmul(), which have one shape.
  virtual GatedLinears place_gated(const Matrix& gate, const Matrix& up, WeightFormat format,
                                   LinearAxes axes) {
    return {place_linear(gate, format, axes), place_linear(up, format, axes)};
  }

  // Starts a step and builds the attention work list. The batch must stay valid and unchanged until the
  // step's last operation.
  virtual void begin_step(const StepBatch& batch) = 0;

  // x[rows, table.cols] = table[token of each row].
  virtual void embed(const Matrix& table, float* x) = 0;

  // Residual and norm in one: x[rows, width] += residual (if not null); then
  // out = x / sqrt(mean(x^2) + eps) * weight[width]. arXiv 1910.07467.
  virtual void rms_norm(float* x, const float* residual, const float* weight, int32_t rows, int32_t width,
                        float eps, float* out) = 0;

  // Several linear layers with the same input x[rows, w.cols], at most kMaxProjections.
  virtual void matmul(const float* x, int32_t rows, std::span<const Projection> projections) = 0;

  // gate.y[rows, w.rows] = silu(gate) * up of two linear layers with the same input x[rows, w.cols]. gate.y
  // may be used only as the input of matmul() after it; up.y is undefined.
  virtual void gated_matmul(const float* x, int32_t rows, const Projection& gate, const Projection& up) {
    const Projection both[] = {gate, up};
    matmul(x, rows, both);
    swiglu(gate.y, up.y, static_cast<size_t>(rows) * static_cast<size_t>(gate.w.rows));
  }

  // Transforms every head of q[rows, num_heads * head_dim] and k[rows, num_kv_heads * head_dim] in place and
  // writes k and v into the rows' slots of the layer's pool, rounded to kv_format. Heads are rotated by the
  // rows' positions (arXiv 2104.09864) as OpsConfig::rope_frequencies says.
  virtual void rope_and_store(int32_t layer, float* q, float* k, const float* v,
                              const HeadTransform& transform) = 0;

  // out[rows, num_heads * head_dim] = softmax(q · K^T / sqrt(head_dim)) · V over the row's path; query heads
  // h * group ... h * group + group - 1 share KV head h. Must follow rope_and_store of the same layer and
  // step.
  virtual void attention(int32_t layer, const float* q, float* out) = 0;

  // gate[count] = silu(gate) * up. arXiv 2002.05202.
  virtual void swiglu(float* gate, const float* up, size_t count) = 0;

  // out[i, width] = x[row_ids[i], width]; out does not overlap x.
  virtual void gather_rows(const float* x, std::span<const int32_t> row_ids, int32_t width, float* out) = 0;

  // out[rows, head.rows] = x[rows, head.cols] · head^T, in host memory. Returns when the copy is complete.
  virtual void logits(const float* x, int32_t rows, const Linear& head, std::span<float> out) = 0;

  // The operations of draft heads (model/medusa_heads.h), after a step has ended and before the next one
  // begins. No more than max_rows rows, except where OpsConfig::draft_rows is named.
  //
  // As gather_rows(), of any rows, also repeated ones, up to draft_rows.
  virtual void pick_rows(const float* x, std::span<const int32_t> row_ids, int32_t width, float* out) = 0;
  // out[i, table.cols] = table[tokens[i]], of any tokens, also repeated ones.
  virtual void pick_embeddings(const Matrix& table, std::span<const int32_t> tokens, float* out) = 0;
  // out[rows, width] = x + y. out may be x.
  virtual void add(const float* x, const float* y, int32_t rows, int32_t width, float* out) = 0;
  // out[first_row + i, width] = x[i, width] + silu(y[i, width]) for `rows` rows. With first_row 0, out may be
  // x.
  virtual void add_silu(const float* x, const float* y, int32_t rows, int32_t width, float* out,
                        int32_t first_row) = 0;
  // The `top_k` largest logits of each row of x[heads * rows, w.cols], of which rows * h ... rows * h + rows
  // - 1 are multiplied with heads[h], all of one shape; equal neighbours share a product. heads * rows is at
  // most draft_rows, top_k is in [1, kMaxDraftTokens].
  //   top[heads * rows, top_k]   the largest first, equal ones by ascending token; only finite logits of
  //                              tokens below `vocab`
  //   log_sums[heads * rows]     log(sum(exp(logit))) of those tokens; NaN if a logit is NaN or infinite
  // In host memory. Returns when the copy is complete.
  virtual void top_tokens(const float* x, int32_t rows, std::span<const Linear> heads, int32_t vocab,
                          int32_t top_k, std::span<TokenLogit> top, std::span<float> log_sums) = 0;

  // Copies keys and values from slot to slot in all layers, in the order of `copies`: a slot may be written
  // after it was read. Between two steps; does not wait for the device.
  virtual void copy_slots(std::span<const SlotCopy> copies) = 0;

  // Ends a step without logits and without sampled tokens. Does not wait for the device. logits() and
  // draw_tokens() end their steps themselves.
  virtual void end_step() {}

  // The device's own time for the last step that ended with logits() or draw_tokens(): from its first launch,
  // or from the launch of a replayed graph, to the end of its last kernel. 0 unless OpsConfig::time_steps is
  // set, and 0 on the CPU.
  virtual double step_seconds() { return 0; }

  // Whether this device implements draw_tokens(). The CPU does not: it would save no copy.
  virtual bool draws_tokens() const { return false; }
  // Replaces logits(): samples a token per row on the device. `draws` and `drawn` have `rows` elements.
  virtual void draw_tokens(const float* /*x*/, int32_t /*rows*/, const Linear& /*head*/,
                           std::span<const TokenDraw> /*draws*/, std::span<DrawnToken> /*drawn*/) {}
};

}  // namespace apar
