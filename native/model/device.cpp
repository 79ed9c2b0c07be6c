#include "model/device.h"

#include "core/error.h"
#include "ops/cpu/cpu_ops.h"
#include "ops/cuda_library.h"

namespace apar {
namespace {

constexpr int32_t kMaxThreads = 256;

double bytes_per_weight(WeightFormat format) {
  constexpr double scales = 4.0 / 32;  // f32, one per group
  if (format == WeightFormat::int8) return 1 + scales;
  if (format == WeightFormat::int4) return 0.5 + scales;
  return format == WeightFormat::f32 ? 4 : 2;
}

// What a device holds beside the KV pool: weights, activations and partial results of attention, logits.
uint64_t model_bytes(const ModelConfig& c, WeightFormat format, int32_t max_rows) {
  constexpr double kActivationBytes = 6;  // f32, and bf16 beside it
  constexpr int32_t kTokensPerPart = 256, kMoreParts = 4;
  const double hidden = c.hidden_size, inner = c.intermediate_size, kv = c.kv_width();
  const double q = double{1} * c.num_heads * c.head_dim, table = double{1} * c.vocab_size * c.hidden_size;
  const double linear = c.num_layers * (2 * hidden * (q + kv) + 3 * hidden * inner) + table;
  const double parts =
      double{4} * (c.context_tokens / kTokensPerPart + 1 + kMoreParts) * (q + 2 * c.num_heads);
  const double row =
      kActivationBytes * (3 * hidden + 3 * q + 2 * kv + 2 * inner) + parts + 4.0 * c.vocab_size;
  return static_cast<uint64_t>(linear * bytes_per_weight(format) + 4 * table + max_rows * row);
}

}  // namespace

DeviceChoice parse_device(const std::string& name) {
  if (name == "auto") return DeviceChoice::automatic;
  if (name == "cpu") return DeviceChoice::cpu;
  if (name == "cuda") return DeviceChoice::cuda;
  throw Error(ErrorCode::invalid_config, "unknown device " + name);
}

MakeOps make_ops_on(DeviceChoice choice, int32_t threads, std::shared_ptr<std::string> fallback) {
  if (threads < 1 || threads > kMaxThreads)
    throw Error(ErrorCode::invalid_config,
                "threads must be in [1, " + std::to_string(kMaxThreads) + "], is " + std::to_string(threads));
  return [=](const OpsConfig& config) -> std::unique_ptr<Ops> {
    if (choice != DeviceChoice::cpu) {
      try {
        return make_cuda_ops(config);
      } catch (const Error& error) {
        if (choice == DeviceChoice::cuda || error.code() != ErrorCode::unavailable) throw;
        *fallback = error.what();
      }
    }
    return std::make_unique<cpu::CpuOps>(config, cpu::select_isa(), threads);
  };
}

int32_t fitting_blocks(DeviceChoice choice, const ModelConfig& config, WeightFormat format, int32_t max_rows,
                       int32_t otherwise) {
  if (choice == DeviceChoice::cpu) return otherwise;
  config.validate();
  OpsConfig pool;
  pool.num_layers = config.num_layers;
  pool.num_heads = config.num_heads;
  pool.num_kv_heads = config.num_kv_heads;
  pool.head_dim = config.head_dim;
  pool.kv_dtype = kv_dtype(format);
  try {
    const int32_t blocks = affordable_cuda_blocks(pool, model_bytes(config, format, max_rows));
    if (blocks > 0) return blocks;
    throw Error(ErrorCode::out_of_memory, "the model leaves no room for KV blocks on the CUDA device");
  } catch (const Error& error) {
    if (choice == DeviceChoice::cuda || error.code() != ErrorCode::unavailable) throw;
    return otherwise;
  }
}

}  // namespace apar
