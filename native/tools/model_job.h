#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "common/model_config.h"
#include "engine/device.h"

namespace apar {

// A checkpoint and how to run it, as text, for tools that other programs drive (test/native,
// native/gpu/verify). One item per line; the caller knows the checkpoint's files:
//   shape VOCAB HIDDEN INTERMEDIATE LAYERS HEADS KV_HEADS HEAD_DIM CONTEXT EPS THETA TIED
//   dtype f32|bf16|f16|fp8|int8|int4
//   kv_cache_dtype auto|fp8
//   device auto|cpu|cuda
//   devices N ...                 CUDA devices that share the model
//   threads N
//   file PATH
//   tensor NAME FILE OFFSET F32|BF16|F16 DIMS SIZE...
// Lines with another first word are the tool's own.
struct ModelJob {
  ModelConfig config;
  WeightTable weights;
  WeightFormat dtype = WeightFormat::f32;
  std::string kv_cache_dtype = "auto";
  DeviceChoice device = DeviceChoice::cpu;
  std::vector<int32_t> devices;
  int32_t threads = 2;
  std::vector<std::string> others;

  ModelFormat format() const { return parse_model_format(dtype, kv_cache_dtype); }
};

// Throws Error{invalid_config} naming the line that cannot be read.
ModelJob read_model_job(std::istream& in);

}  // namespace apar
