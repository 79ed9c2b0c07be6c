#pragma once

#include <string>

#include "common/draft.h"
#include "common/model_config.h"
#include "common/step_batch.h"
#include "common/token_draw.h"

namespace apar {

// A loaded checkpoint with its KV pool on one device. Only the engine thread calls it.
class Model {
 public:
  virtual ~Model() = default;

  virtual const ModelConfig& config() const = 0;
  // Description for users: "cpu avx512 x2".
  virtual std::string device() const = 0;
  virtual int32_t num_blocks() const = 0;
  // The most rows of one forward pass.
  virtual int32_t max_rows() const = 0;
  // The most of them that have logits.
  virtual int32_t max_logit_rows() const { return max_rows(); }

  // Runs the batch, writes K and V of every row into its slot, and the logits of batch.logit_rows to `logits`
  // [logit_rows, vocab_size] in f32. The bits of a row do not depend on the other rows of the batch, on how
  // its prompt was split into chunks, or on where the nodes of the tree begin: parallel decoding must give
  // the tokens of serial decoding. Throws Error{internal} on a device failure.
  virtual void forward(const StepBatch& batch, std::span<float> logits) = 0;

  // Whether draw() is supported: a device that samples itself returns a few bytes instead of all logits.
  virtual bool draws() const { return false; }
  // As forward(), but samples a token for each of batch.logit_rows on the device.
  virtual void draw(const StepBatch& /*batch*/, std::span<const TokenDraw> /*draws*/,
                    std::span<DrawnToken> /*drawn*/) {}

  // The Medusa heads of the checkpoint. Head i, from 0, predicts the token at offset i + 2.
  virtual int32_t draft_heads() const { return 0; }
  // After forward() or draw() and before the next of them: for each of `rows` the `top_k` likeliest tokens of
  // every head, most likely first, equally likely ones by ascending id: out[rows, draft_heads(), top_k].
  // Control tokens are among them. top_k is in [1, kMaxDraftTokens]. A row's bits do not depend on the other
  // rows. Throws Error{internal}.
  virtual void draft(std::span<const DraftRow> /*rows*/, int32_t /*top_k*/,
                     std::span<DraftCandidate> /*out*/) {}
  // Copies K and V of every layer from slot to slot, in order, before the next forward(). A slot that was
  // written is not read by a later copy. Throws Error{internal} for a slot that the pool does not have.
  virtual void copy_slots(std::span<const SlotCopy> /*copies*/) {}
};

}  // namespace apar
