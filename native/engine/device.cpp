#include "engine/device.h"

#include <algorithm>
#include <limits>

#include "common/error.h"
#include "ops/cpu/cpu_ops.h"
#include "ops/cuda/library/cuda_library.h"
#include "ops/sharded/sharded_plan.h"

namespace apar {
namespace {

constexpr int32_t kMaxThreads = 256;

double bytes_per_weight(WeightFormat format) {
  constexpr double scales = 4.0 / 32;  // one f32 per group of 32
  if (format == WeightFormat::int8) return 1 + scales;
  if (format == WeightFormat::int4) return 0.5 + scales;
  if (format == WeightFormat::fp8) return 1;
  return format == WeightFormat::f32 ? 4 : 2;
}

// The memory that one of `ranks` devices needs besides its part of the KV pool: weights, activations, partial
// results of attention, logits, buffers of the all-reduce. `part` is its part of model `c`.
uint64_t model_bytes(const ModelConfig& c, const OpsConfig& part, int32_t ranks, WeightFormat format,
                     int32_t max_rows) {
  constexpr double kActivationBytes = 6;  // f32 and a bf16 copy
  constexpr int32_t kTokensPerPart = 256, kMoreParts = 4;
  const double hidden = c.hidden_size, inner = part.intermediate_size, vocab = part.vocab_size;
  const double q = double{1} * part.num_heads * c.head_dim, kv = double{1} * part.num_kv_heads * c.head_dim;
  const double linear = c.num_layers * (2 * hidden * (q + kv) + 3 * hidden * inner) + hidden * vocab;
  const double parts =
      double{4} * (c.context_tokens / kTokensPerPart + 1 + kMoreParts) * (q + 2 * part.num_heads);
  const double sums = ranks > 1 ? 4.0 * ranks * hidden : 0;
  const double row =
      kActivationBytes * (3 * hidden + 3 * q + 2 * kv + 2 * inner) + parts + sums + 4.0 * vocab;
  const double table = 4.0 * c.vocab_size * hidden;  // f32 is the largest format
  return static_cast<uint64_t>(linear * bytes_per_weight(format) + table + max_rows * row);
}

}  // namespace

DeviceChoice parse_device(const std::string& name) {
  if (name == "auto") return DeviceChoice::automatic;
  if (name == "cpu") return DeviceChoice::cpu;
  if (name == "cuda") return DeviceChoice::cuda;
  throw Error(ErrorCode::invalid_config, "unknown device " + name);
}

MakeOps make_ops_on(DeviceChoice choice, int32_t threads, std::shared_ptr<std::string> fallback,
                    std::vector<int32_t> devices) {
  if (!devices.empty() && choice != DeviceChoice::cuda)
    throw Error(ErrorCode::invalid_config, "a list of devices needs the device cuda");
  if (threads < 1 || threads > kMaxThreads)
    throw Error(ErrorCode::invalid_config,
                "threads must be in [1, " + std::to_string(kMaxThreads) + "], is " + std::to_string(threads));
  return [=](const OpsConfig& config) -> std::unique_ptr<Ops> {
    if (choice != DeviceChoice::cpu) {
      try {
        return make_cuda_ops(config, devices);
      } catch (const Error& error) {
        if (choice == DeviceChoice::cuda || error.code() != ErrorCode::unavailable) throw;
        *fallback = error.what();
      }
    }
    return std::make_unique<cpu::CpuOps>(config, cpu::select_isa(), threads);
  };
}

int32_t fitting_blocks(DeviceChoice choice, const ModelConfig& config, ModelFormat format, int32_t max_rows,
                       int32_t cpu_blocks, std::span<const int32_t> devices) {
  if (choice == DeviceChoice::cpu) return cpu_blocks;
  config.validate();
  OpsConfig pool;
  pool.num_layers = config.num_layers;
  pool.num_heads = config.num_heads;
  pool.num_kv_heads = config.num_kv_heads;
  pool.head_dim = config.head_dim;
  pool.kv_format = format.kv;
  pool.max_rows = max_rows;
  pool.intermediate_size = config.intermediate_size;
  pool.vocab_size = config.vocab_size;
  const std::vector<int32_t> first = {0};
  const std::span<const int32_t> all = devices.empty() ? first : devices;
  const auto ranks = static_cast<int32_t>(all.size());
  const ShardPlan plan(pool, ranks);
  try {
    int32_t blocks = std::numeric_limits<int32_t>::max();
    for (int32_t rank = 0; rank < ranks; ++rank) {
      const OpsConfig part = plan.config_of(rank);
      const uint64_t other_bytes = model_bytes(config, part, ranks, format.weights, max_rows);
      blocks = std::min(blocks, affordable_cuda_blocks(part, other_bytes, all[static_cast<size_t>(rank)]));
    }
    if (blocks > 0) return blocks;
    throw Error(ErrorCode::out_of_memory, "the model leaves no memory for KV blocks on the CUDA device");
  } catch (const Error& error) {
    if (choice == DeviceChoice::cuda || error.code() != ErrorCode::unavailable) throw;
    return cpu_blocks;
  }
}

}  // namespace apar
