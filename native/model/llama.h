#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "common/model_config.h"
#include "model/llama_layout.h"
#include "model/model.h"
#include "ops/ops.h"

namespace apar {

// Opens the device that runs the model. open_llama passes its exceptions on.
using MakeOps = std::function<std::unique_ptr<Ops>(const OpsConfig&)>;

// Called with the number of bytes of the checkpoint that are loaded on the device, ascending, at the end with
// all of them; on the thread that opens the model.
using LoadProgress = std::function<void(uint64_t done_bytes, uint64_t total_bytes)>;

// A Llama-architecture checkpoint (arXiv 2302.13971, grouped-query attention as in Llama 2) with Hugging Face
// tensor names and a KV pool of num_blocks blocks of 16 tokens, on the device that make_ops opens.
//
// `format` is the format of the linear layers and of the KV pool. A forward pass takes up to rows.max rows,
// rows.max_with_logits of them with logits; its buffers are allocated here. The configuration and the size of
// the pool limit the context. Throws Error{invalid_config}, Error{invalid_weights} or Error{out_of_memory}.
std::unique_ptr<Model> open_llama(const ModelConfig& config, const WeightTable& table, ModelFormat format,
                                  int32_t num_blocks, StepRows rows, const MakeOps& make_ops,
                                  const LoadProgress& progress = {});

// The same on the CPU, with `threads` in [1, 256] and the fastest kernels that the CPU supports, or those
// that APAR_CPU names. Throws Error{unavailable} if the CPU cannot run those.
std::unique_ptr<Model> open_llama(const ModelConfig& config, const WeightTable& table, ModelFormat format,
                                  int32_t num_blocks, StepRows rows, int32_t threads);

}  // namespace apar
