#pragma once

#include <string>

#include "common/model_config.h"
#include "common/step_batch.h"
#include "common/token_draw.h"

namespace apar {

// A loaded checkpoint with its KV pool on one device. Owned and called by the engine thread alone.
class Model {
 public:
  virtual ~Model() = default;

  virtual const ModelConfig& config() const = 0;
  // For people: "cpu avx512 x2".
  virtual std::string device() const = 0;
  virtual int32_t num_blocks() const = 0;
  // Rows that one forward pass can take.
  virtual int32_t max_rows() const = 0;

  // Runs the batch, writes K and V of every row into its slot, and the logits of batch.logit_rows to `logits`
  // [logit_rows, vocab_size] in f32. A row's result does not depend, to the bit, on which other rows run
  // beside it, on how its prompt was cut into chunks, or on where the tree's nodes begin: parallel decoding
  // must give the tokens of serial decoding. Throws Error{internal} on a device failure.
  virtual void forward(const StepBatch& batch, std::span<float> logits) = 0;

  // Whether draw() is there: a device that draws tokens itself hands out a few bytes instead of all logits.
  virtual bool draws() const { return false; }
  // As forward(), but draws a token for each of batch.logit_rows from its logits.
  virtual void draw(const StepBatch& /*batch*/, std::span<const TokenDraw> /*draws*/,
                    std::span<DrawnToken> /*drawn*/) {}
};

}  // namespace apar
