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

}  // namespace apar
