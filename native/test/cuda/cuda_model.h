#pragma once

#include <memory>

#include "model/llama.h"
#include "ops/cuda/cuda_ops.h"
#include "test/cuda/open_device.h"
#include "test/random_model.h"

namespace apar::test {

// A random model on one test device.
inline std::unique_ptr<Model> open_cuda(const RandomModel& random, ModelFormat format, int32_t blocks,
                                        int32_t rows) {
  return open_llama(random.config, random.weights, format, blocks, rows, [](const OpsConfig& config) {
    return std::make_unique<cuda::CudaOps>(config, cuda::open_test_device());
  });
}

struct TensorCoreShape {
  int32_t hidden_size = 0;
  int32_t intermediate_size = 0;
  int32_t num_layers = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
};

// small_config() with heads of 64 dimensions, the smallest that the tensor-core kernels support.
inline ModelConfig tensor_core_config(const TensorCoreShape& shape) {
  ModelConfig config = small_config();
  config.hidden_size = shape.hidden_size;
  config.intermediate_size = shape.intermediate_size;
  config.num_layers = shape.num_layers;
  config.num_heads = shape.num_heads;
  config.num_kv_heads = shape.num_kv_heads;
  set_head_dim(config, 64);
  return config;
}

}  // namespace apar::test
