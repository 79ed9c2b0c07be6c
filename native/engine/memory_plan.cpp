#include "engine/memory_plan.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <map>
#include <unordered_map>

#include "common/error.h"
#include "core/step_drafts.h"
#include "engine/step_size.h"
#include "model/llama_layout.h"
#include "model/medusa_layout.h"
#include "ops/cpu/cpu_memory.h"
#include "ops/cuda/library/cuda_library.h"
#include "ops/sharded/sharded_plan.h"

namespace apar {
namespace {

constexpr double kDefaultFraction = 0.9;
constexpr uint64_t kMinKeptFree = uint64_t{256} << 20;
// What the KV tree and the block pool keep on the host for a block, at most: a node of its own with 16
// tokens.
constexpr uint64_t kTreeBytesPerBlock = 320;
// A slot, block * 16 + offset, is an int32.
constexpr int32_t kMaxBlocks = std::numeric_limits<int32_t>::max() / kBlockTokens;

std::string readable(uint64_t bytes) {
  constexpr double kGiB = 1 << 30, kMiB = 1 << 20;
  char text[32];
  const auto amount = static_cast<double>(bytes);
  if (amount >= kGiB)
    std::snprintf(text, sizeof text, "%.1f GiB", amount / kGiB);
  else
    std::snprintf(text, sizeof text, "%.0f MiB", amount / kMiB);
  return text;
}

// The needs of one device, which holds the shard `rank` of the model.
class DeviceNeeds {
 public:
  DeviceNeeds(const DeviceMemory& memory, const ModelMemory& model, int32_t rank, int32_t ranks)
      : memory_(memory), model_(model), rank_(rank), ranks_(ranks) {}

  uint64_t weights() const {
    const ModelConfig& config = model_.config;
    const WeightFormat format = model_.format.weights;
    const ShardPlan plan = shards(1);
    const auto stored = stored_dtypes();
    const auto dtype = [&](const std::string& tensor) {
      const auto found = stored.find(tensor);
      return found == stored.end() ? DType::f32 : found->second;
    };
    std::map<WeightFormat, std::vector<Matrix>> layers;
    uint64_t vectors = norm_weights(config);  // floats
    std::vector<LinearLayer> linears = linear_layers(config);
    const size_t decoder = linears.size();
    const std::vector<LinearLayer> heads = medusa_layers(config);
    const std::vector<size_t> shared = shared_weights(heads, model_.weights);
    for (size_t i = 0; i < heads.size(); ++i) {
      if (shared[i] == i)
        linears.push_back(heads[i]);
      else
        vectors += static_cast<uint64_t>(heads[i].rows);  // only its bias is its own
    }
    for (size_t i = 0; i < linears.size(); ++i) {
      const LinearLayer& layer = linears[i];
      const int64_t rows = plan.shard(layer.axes.outputs, layer.rows, rank_).size();
      if (!layer.bias.empty()) vectors += static_cast<uint64_t>(rows);
      // The host reads f32 weights from the checkpoint, which has only one copy of a tied table.
      const bool in_place = memory_.is_host() && format == WeightFormat::f32;
      if (in_place && layer.tensor == kEmbeddingTable && dtype(layer.tensor) == DType::f32) continue;
      const int64_t cols = plan.shard(layer.axes.inputs, layer.cols, rank_).size();
      const WeightFormat own = i < decoder ? layer_format(layer, model_.weights, format) : format;
      layers[own].push_back({nullptr, dtype(layer.tensor), rows, cols});
    }
    const uint64_t table =
        bounded_product({static_cast<uint64_t>(config.vocab_size), static_cast<uint64_t>(config.hidden_size),
                         static_cast<uint64_t>(block_size(table_dtype(format)).bytes)});
    uint64_t bytes = table + bounded_product({vectors, sizeof(float)});
    for (const auto& [own, matrices] : layers) bytes += memory_.linear_bytes(matrices, own);
    return bytes;
  }

  uint64_t workspace(int32_t blocks) const {
    const ShardPlan plan = shards(blocks);
    const auto rows = static_cast<uint64_t>(model_.max_rows);
    const OpsConfig ops = plan.config_of(rank_);
    uint64_t bytes = memory_.step_bytes(ops) + memory_.driver_bytes(ops);
    for (const auto& [width, axis] : activation_buffers(model_.config).all())
      bytes += memory_.buffer_bytes(
          bounded_product({rows, static_cast<uint64_t>(plan.shard(axis, width, rank_).size())}));
    for (const uint64_t floats : medusa_buffers(model_.config, model_.max_rows).all(model_.config.medusa))
      bytes += memory_.buffer_bytes(floats);
    if (!memory_.is_host()) return bytes;
    const auto logit_rows = static_cast<uint64_t>(StepDrafts::host_logit_rows(model_.max_branches));
    const uint64_t logits =
        bounded_product({logit_rows, static_cast<uint64_t>(model_.config.vocab_size), sizeof(float)});
    return bytes + logits + kTreeBytesPerBlock * static_cast<uint64_t>(blocks);
  }

  uint64_t block() const { return memory_.pool_bytes(shards(1).config_of(rank_)); }

 private:
  ShardPlan shards(int32_t blocks) const {
    const StepRows rows = step_rows(model_.max_rows, model_.max_branches);
    return {ops_config(model_.config, model_.format.kv, blocks, rows), ranks_};
  }

  std::unordered_map<std::string, DType> stored_dtypes() const {
    std::unordered_map<std::string, DType> dtypes;
    // A tensor that an adapter changes becomes a copy, as one that is widened does.
    for (const TensorInfo& tensor : model_.weights.tensors)
      dtypes.emplace(tensor.name, tensor.updated() ? DType::bf16 : tensor.dtype);
    return dtypes;
  }

  const DeviceMemory& memory_;
  const ModelMemory& model_;
  int32_t rank_, ranks_;
};

uint64_t kept_free(const FreeMemory& free, bool on_host, double fraction) {
  const double used = fraction > 0 ? fraction : kDefaultFraction;
  const uint64_t rest = free.bytes - static_cast<uint64_t>(static_cast<double>(free.bytes) * used);
  if (fraction > 0 || !on_host) return rest;
  return std::min(free.bytes, std::max(rest, kMinKeptFree));
}

[[noreturn]] void refuse(const MemoryPlan& plan) {
  throw DoesNotFit("the model needs " + readable(plan.total_bytes()) + " (weights " +
                       readable(plan.weight_bytes) + ", workspace " + readable(plan.workspace_bytes) + ", " +
                       std::to_string(plan.num_blocks) + " KV blocks " + readable(plan.kv_bytes()) +
                       "), but " + readable(plan.free.bytes - plan.kept_free_bytes) +
                       " are available: " + plan.free.source + " leaves " + readable(plan.free.bytes) +
                       ", of which " + readable(plan.kept_free_bytes) + " stay free",
                   plan);
}

MemoryPlan plan_device(const DeviceMemory& memory, const ModelMemory& model, const PoolRequest& pool,
                       int32_t rank, int32_t ranks) {
  const DeviceNeeds needs(memory, model, rank, ranks);
  MemoryPlan plan;
  plan.on_host = memory.is_host();
  plan.devices = ranks;
  plan.max_step_tokens = model.max_rows;
  plan.free = memory.free_memory();
  const uint64_t reserved = plan.on_host ? std::min(pool.reserved_bytes, plan.free.bytes) : 0;
  plan.kept_free_bytes =
      std::min(plan.free.bytes, kept_free(plan.free, plan.on_host, pool.fraction) + reserved);
  plan.weight_bytes = needs.weights();
  plan.block_bytes = needs.block();
  const auto fits = [&](int32_t blocks) {
    plan.num_blocks = blocks;
    plan.workspace_bytes = needs.workspace(blocks);
    return plan.total_bytes() <= plan.free.bytes - plan.kept_free_bytes;
  };
  int32_t least = pool.min_blocks, most = std::min(pool.max_blocks, kMaxBlocks);
  if (pool.kv_bytes > 0) {
    most = static_cast<int32_t>(std::min<uint64_t>(pool.kv_bytes / plan.block_bytes, kMaxBlocks));
    if (most < least)
      throw Error(ErrorCode::invalid_config,
                  readable(pool.kv_bytes) + " of KV cache hold " + std::to_string(most) + " blocks, and " +
                      std::to_string(least) + " (" +
                      readable(plan.block_bytes * static_cast<uint64_t>(least)) + ") are needed");
    least = most;
  }
  if (!fits(least)) refuse(plan);
  // The largest number that fits: `least` does, and `beyond` is too many.
  for (int64_t beyond = int64_t{most} + 1; beyond - least > 1;) {
    const auto middle = static_cast<int32_t>(least + (beyond - least) / 2);
    if (fits(middle))
      least = middle;
    else
      beyond = middle;
  }
  fits(least);
  return plan;
}

}  // namespace

MemoryPlan plan_memory(const std::vector<std::unique_ptr<DeviceMemory>>& devices, const ModelMemory& model,
                       const PoolRequest& pool) {
  model.config.validate();
  if (pool.min_blocks < 1 || pool.max_blocks < pool.min_blocks)
    throw Error(ErrorCode::invalid_config, "the number of KV blocks must be at least 1");
  if (pool.fraction < 0 || pool.fraction > 1)
    throw Error(ErrorCode::invalid_config, "the memory fraction must be in (0, 1]");
  const auto ranks = static_cast<int32_t>(devices.size());
  ModelMemory sized = model;
  sized.max_rows = step_tokens(model.max_rows, model.max_branches, devices.front()->is_host());
  MemoryPlan least;
  for (int32_t rank = 0; rank < ranks; ++rank) {
    const MemoryPlan plan = plan_device(*devices[static_cast<size_t>(rank)], sized, pool, rank, ranks);
    if (rank == 0 || plan.num_blocks < least.num_blocks) least = plan;
  }
  return least;
}

std::vector<std::unique_ptr<DeviceMemory>> memory_of(DeviceChoice choice, int32_t threads,
                                                     const std::vector<int32_t>& devices) {
  std::vector<std::unique_ptr<DeviceMemory>> memory;
  if (choice != DeviceChoice::cpu) {
    try {
      const std::vector<int32_t> all = devices.empty() ? std::vector<int32_t>{0} : devices;
      for (const int32_t device : all)
        memory.push_back(cuda_memory(device, static_cast<int32_t>(all.size())));
      return memory;
    } catch (const Error& error) {
      if (choice == DeviceChoice::cuda || error.code() != ErrorCode::unavailable) throw;
    }
  }
  memory.clear();
  memory.push_back(std::make_unique<cpu::CpuMemory>(threads));
  return memory;
}

}  // namespace apar
