#pragma once

#include <napi.h>

#include "common/model_config.h"
#include "engine/device.h"
#include "engine/engine.h"

namespace apar {

// All of an EngineConfig, copied off the JavaScript heap.
struct OpenConfig {
  ModelConfig model;
  WeightTable weights;
  EngineConfig engine;
  ModelFormat format = WeightFormat::f32;
  DeviceChoice device = DeviceChoice::automatic;
  std::vector<int32_t> devices;  // CUDA devices that share the model; none: the first one alone
  int32_t threads = 1;
  int32_t num_blocks = 0;
  bool fill_device = false;  // num_blocks is the CPU's; a CUDA device takes as many as fit
};

// The JavaScript objects of gpu-node/engine/engine-{config,request}.ts as C++ values. Throw
// Error{invalid_config, invalid_weights, invalid_request} for a wrong type; ranges are checked by whom they
// concern.
OpenConfig read_config(const Napi::Object& config);
RequestParams read_request(const Napi::Object& request);

}  // namespace apar
