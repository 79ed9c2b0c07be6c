#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "common/model_config.h"
#include "engine/device.h"

namespace apar {

// A checkpoint and the device to run it on, as text on standard input: other programs call the tools
// (test/native, native/gpu/verify) and know the checkpoint's files. One item per line:
//   shape VOCAB HIDDEN INTERMEDIATE LAYERS HEADS KV_HEADS HEAD_DIM CONTEXT EPS TIED
//   rope SCALE FREQUENCY...
//   layers_without_rope LAYER...
//   features qkv_bias|attention_output_bias|mlp_bias|head_norms ...
//   dtype f32|bf16|f16|fp8|int8|int4|int4-g128
//   kv_cache_dtype auto|fp8
//   device auto|cpu|cuda
//   devices N ...                 CUDA devices that share the model
//   threads N
//   file PATH
//   tensor NAME FILE OFFSET DTYPE DIMS SIZE... [INTERLEAVED_HEADS]
// Lines that begin with another word are for the tool itself: `others`.
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

// Throws Error{invalid_config} that names the line it cannot parse.
ModelJob read_model_job(std::istream& in);

}  // namespace apar
