#pragma once

#include <memory>
#include <utility>

#include "model/llama.h"
#include "ops/cuda/cuda_ops.h"
#include "ops/cuda/emulator/emulated_device.h"
#include "test/random_model.h"

namespace apar::test {

// A random model, and the emulated device that it runs on and owns.
struct EmulatedModel {
  cuda::EmulatedDevice* device = nullptr;
  std::unique_ptr<Model> model;
};

inline EmulatedModel open_emulated(const RandomModel& random, int32_t blocks, StepRows rows,
                                   uint64_t device_bytes = uint64_t{1} << 30,
                                   ModelFormat format = WeightFormat::bf16) {
  EmulatedModel opened;
  opened.model =
      open_llama(random.config, random.weights, format, blocks, rows, [&](const OpsConfig& config) {
        auto owned = std::make_unique<cuda::EmulatedDevice>(device_bytes);
        opened.device = owned.get();
        return std::make_unique<cuda::CudaOps>(config, std::move(owned));
      });
  return opened;
}

}  // namespace apar::test
