#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "ops/cuda/device/device.h"
#include "ops/cuda/gemm/plan.h"
#include "ops/cuda/step/attention_work.h"
#include "ops/device_memory.h"
#include "ops/ops.h"

namespace apar::cuda {

// The bytes of the keys and values of num_blocks blocks in all layers.
uint64_t kv_pool_bytes(const OpsConfig& config, int32_t num_blocks);

// The partial results of the attention of a step take at most so much, unless one per row takes more.
constexpr int64_t kPartialBytes = int64_t{256} << 20;

// The maximum number of partial results of a step: what its work list makes use of, within kPartialBytes. The
// list has a form for any number of at least max_rows (AttentionWork::build()).
int64_t max_step_partials(const OpsConfig& config);

// The maximum number of slots in a step's work list.
int64_t max_step_slots(const OpsConfig& config, Sharing sharing);

// The maximum number of 32-bit words of a step's data (step_buffer.h).
size_t max_step_words(const OpsConfig& config, int64_t max_partials, int64_t max_slots);

// The bytes of the scratch memory of matrix products.
constexpr uint64_t bytes_of(const GemmScratch& scratch) {
  return static_cast<uint64_t>(scratch.partials) * sizeof(float) +
         static_cast<uint64_t>(scratch.arrived) * sizeof(int32_t);
}

// A device's memory, before Ops are opened on it. `ranks`: devices that share the model.
class CudaMemory final : public DeviceMemory {
 public:
  CudaMemory(DeviceInfo info, int32_t ranks) : info_(std::move(info)), ranks_(ranks) {}

  FreeMemory free_memory() const override;
  bool is_host() const override { return false; }
  uint64_t linear_bytes(std::span<const Matrix> layers, WeightFormat format) const override;
  uint64_t buffer_bytes(uint64_t count) const override;
  uint64_t step_bytes(const OpsConfig& config) const override;
  // That of captured graphs; none where graphs are off.
  uint64_t driver_bytes(const OpsConfig& config) const override;
  uint64_t pool_bytes(const OpsConfig& config) const override {
    return kv_pool_bytes(config, config.num_blocks);
  }

 private:
  DeviceInfo info_;
  int32_t ranks_;
};

}  // namespace apar::cuda
