#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/llama.h"

namespace apar {

// Where a model runs. automatic: on a CUDA device where there is one, else on the CPU.
enum class DeviceChoice : uint8_t { automatic, cpu, cuda };

// "auto", "cpu", "cuda". Throws Error{invalid_config} for another name.
DeviceChoice parse_device(const std::string& name);

// Opens the chosen device for open_llama; threads in [1, 256] are the CPU's. Where `automatic` has to make do
// with the CPU, *fallback says why. With `devices`, these CUDA devices share the model
// (ops/sharded/sharded_ops.h): the choice must be cuda then. Throws Error{invalid_config}; when called,
// Error{unavailable} if what was asked for is not there.
MakeOps make_ops_on(DeviceChoice choice, int32_t threads, std::shared_ptr<std::string> fallback,
                    std::vector<int32_t> devices = {});

// KV blocks for a pool that takes what a CUDA device, or the fullest of `devices`, has free beside the model
// or its part of it; `otherwise` where the choice ends on the CPU. Throws Error{out_of_memory} when the
// device has no room for a pool, Error{unavailable} as make_ops_on's function.
int32_t fitting_blocks(DeviceChoice choice, const ModelConfig& config, ModelFormat format, int32_t max_rows,
                       int32_t otherwise, std::span<const int32_t> devices = {});

}  // namespace apar
