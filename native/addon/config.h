#pragma once

#include <napi.h>

#include "common/model_config.h"
#include "engine/device.h"
#include "engine/engine.h"
#include "engine/memory_plan.h"

namespace apar {

// A copy of the JavaScript EngineConfig, without its text.
struct OpenConfig {
  ModelConfig model;
  WeightTable weights;
  EngineConfig engine;
  ModelFormat format = WeightFormat::f32;
  DeviceChoice device = DeviceChoice::automatic;
  std::vector<int32_t> devices;  // CUDA devices that share the model; empty: the first device alone
  int32_t threads = 1;
  int32_t num_blocks = 0;
  PoolRequest pool;  // for the plan of the memory, which chooses num_blocks; max_blocks is num_blocks
};

// A request's grammar as JavaScript holds it.
using GrammarHandle = std::shared_ptr<const Grammar>;

// Convert the JavaScript objects of gpu-node/engine/engine-{config,request}.ts to C++ values. Throw
// Error{invalid_config} or Error{invalid_weights} for a wrong type. open_llama, Decoder and Engine check
// ranges.
OpenConfig read_config(const Napi::Object& config);
TokenText read_text(const Napi::Object& text);
RequestParams read_request(const Napi::Object& request);

}  // namespace apar
