#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "common/model_config.h"
#include "model/model.h"
#include "ops/ops.h"

namespace apar {

// Opens the device that is to run the model. Its errors pass through open_llama.
using MakeOps = std::function<std::unique_ptr<Ops>(const OpsConfig&)>;

// Hears how many of the checkpoint's bytes have reached the device, ascending, at last all of them; on the
// thread that opens the model.
using LoadProgress = std::function<void(uint64_t done_bytes, uint64_t total_bytes)>;

// A Llama-architecture checkpoint (arXiv 2302.13971, grouped-query attention as in Llama 2) with Hugging Face
// tensor names and a KV pool of num_blocks blocks of 16 tokens, on the device that make_ops opens.
//
// `format` is that of the linear layers and of the KV pool. A forward pass takes up to max_rows rows; its
// buffers are allocated here. A context is limited by the configuration and by the pool. Throws
// Error{invalid_config}, Error{invalid_weights}, Error{out_of_memory}.
std::unique_ptr<Model> open_llama(const ModelConfig& config, const WeightTable& table, ModelFormat format,
                                  int32_t num_blocks, int32_t max_rows, const MakeOps& make_ops,
                                  const LoadProgress& progress = {});

// The same on the CPU, with `threads` in [1, 256] threads and the fastest kernels it has (or those that
// APAR_CPU names; Error{unavailable} where it cannot run them).
std::unique_ptr<Model> open_llama(const ModelConfig& config, const WeightTable& table, ModelFormat format,
                                  int32_t num_blocks, int32_t max_rows, int32_t threads);

}  // namespace apar
