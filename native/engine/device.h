#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/llama.h"

namespace apar {

// Where a model runs. automatic: on a CUDA device if one is available, else on the CPU.
enum class DeviceChoice : uint8_t { automatic, cpu, cuda };

// "auto", "cpu" or "cuda". Throws Error{invalid_config} for any other name.
DeviceChoice parse_device(const std::string& name);

// Returns the function that opens the chosen device for open_llama. `threads` in [1, 256] is the number of
// CPU threads. If `automatic` falls back to the CPU, *fallback gets the reason. With `devices`, these CUDA
// devices share the model (ops/sharded/sharded_ops.h); `choice` must then be cuda. Throws
// Error{invalid_config}; the returned function throws Error{unavailable} if the device is missing.
MakeOps make_ops_on(DeviceChoice choice, int32_t threads, std::shared_ptr<std::string> fallback,
                    std::vector<int32_t> devices = {});

// The number of KV blocks that fit the memory of a CUDA device besides the model; with `devices`, the number
// that fits the one with the least free memory, each with its part of the model. Returns `cpu_blocks` if the
// model runs on the CPU. Throws Error{out_of_memory} if there is no memory for a pool, Error{unavailable} as
// the function that make_ops_on() returns.
int32_t fitting_blocks(DeviceChoice choice, const ModelConfig& config, ModelFormat format, int32_t max_rows,
                       int32_t cpu_blocks, std::span<const int32_t> devices = {});

}  // namespace apar
