#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/error.h"
#include "engine/device.h"
#include "ops/device_memory.h"

namespace apar {

// What the operator asks of the KV pool.
struct PoolRequest {
  int32_t min_blocks = 1;  // fewer are not worth a start
  int32_t max_blocks = 1;  // more could not be used
  uint64_t kv_bytes = 0;   // if not 0, the pool takes this many bytes, whatever max_blocks is
  // The share of the free memory that the engine may take, in (0, 1]; 0 is the default: 0.9, and on the host
  // the rest is at least 256 MiB, for the other memory of the process.
  double fraction = 0;
  // Of the host's free memory, what the process takes for other things after the plan is made.
  uint64_t reserved_bytes = 0;
};

// Which part of the free memory the engine takes. If several devices share the model, the figures are those
// of the device that limits the pool.
struct MemoryPlan {
  bool on_host = true;
  int32_t devices = 1;
  int32_t max_step_tokens = 0;
  FreeMemory free;
  uint64_t kept_free_bytes = 0;  // of free.bytes
  uint64_t weight_bytes = 0;
  uint64_t workspace_bytes = 0;  // activations, logits, tables, what the tree keeps for every block
  uint64_t block_bytes = 0;      // of the keys and values of a block, in all layers
  int32_t num_blocks = 0;

  uint64_t kv_bytes() const { return block_bytes * static_cast<uint64_t>(num_blocks); }
  uint64_t total_bytes() const { return weight_bytes + workspace_bytes + kv_bytes(); }
};

// The model does not fit; the plan says what it would take with min_blocks.
class DoesNotFit : public Error {
 public:
  DoesNotFit(const std::string& message, MemoryPlan plan)
      : Error(ErrorCode::out_of_memory, message), plan_(std::move(plan)) {}
  const MemoryPlan& plan() const noexcept { return plan_; }

 private:
  MemoryPlan plan_;
};

// The model, and how it is opened.
struct ModelMemory {
  const ModelConfig& config;
  const WeightTable& weights;  // only names and dtypes are used: no weight is read
  ModelFormat format;
  int32_t max_rows = 0;  // of a step; 0: as many as suit the device (step_size.h)
  int32_t max_branches = 0;
};

// Plans for the devices that share the model, one or more. Throws DoesNotFit, which names what is needed
// and what is available, when the model does not fit with min_blocks, and what ShardPlan throws.
MemoryPlan plan_memory(const std::vector<std::unique_ptr<DeviceMemory>>& devices, const ModelMemory& model,
                       const PoolRequest& pool);

// The memory of the devices that make_ops_on() would open with these arguments. Throws Error{unavailable} if
// a device is missing.
std::vector<std::unique_ptr<DeviceMemory>> memory_of(DeviceChoice choice, int32_t threads,
                                                     const std::vector<int32_t>& devices);
// Whether they would be the host.
bool is_on_host(DeviceChoice choice, const std::vector<int32_t>& devices);

}  // namespace apar
