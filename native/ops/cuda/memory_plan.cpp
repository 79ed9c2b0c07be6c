#include "ops/cuda/memory_plan.h"

#include <algorithm>

#include "ops/cuda/device/switches.h"
#include "ops/cuda/gemm/cublaslt.h"
#include "ops/cuda/gemm/weight_tiles.h"
#include "ops/cuda/step/attention_work.h"
#include "ops/cuda/step/step_data.h"
#include "ops/cuda/step/step_graphs.h"

namespace apar::cuda {

uint64_t kv_pool_bytes(const OpsConfig& config, int32_t num_blocks) {
  return uint64_t{1} * config.num_layers * num_blocks * config.num_kv_heads * kBlockTokens *
         kv_token_bytes(config.kv_format, config.head_dim);
}

int64_t max_step_partials(const OpsConfig& config) {
  const int64_t bytes = int64_t{config.num_heads} * (config.head_dim + 2) * int64_t{sizeof(float)};
  const int64_t useful = AttentionWork::max_partials(config.max_rows, config.max_context);
  return std::max(int64_t{config.max_rows}, std::min(useful, kPartialBytes / bytes));
}

int64_t max_step_slots(const OpsConfig& config, Sharing sharing) {
  const int64_t rows = config.max_rows;
  if (sharing == Sharing::never) return rows * config.max_context;
  // A token is listed once for all prompts and once for all other sequences. In a chunk or span within which
  // sequences diverge it is listed once per sequence that reads it, which adds less than a span per sequence.
  return int64_t{2} * config.num_blocks * kBlockTokens + rows * kSpanTokens;
}

size_t max_step_words(const OpsConfig& config, int64_t max_partials, int64_t max_slots) {
  constexpr int64_t kWordsPerItem = sizeof(AttentionItem) / sizeof(int32_t);
  constexpr int64_t kHeaderWords = sizeof(StepHeader) / sizeof(int32_t);
  const int64_t rows = config.max_rows;
  // Of the first items of all paths.
  const int64_t chunk_slots = rows * ((config.max_context + kChunkTokens - 1) / kChunkTokens);
  // Every item has at least one partial result.
  return static_cast<size_t>(kHeaderWords + 7 * rows + 1 + max_slots + chunk_slots +
                             max_partials * (kWordsPerItem + 1));
}

namespace {

// With `automatic` also where the library is not found: opening it would tell, and the plan opens nothing.
bool may_use_cublaslt() {
  const GemmBackend backend = gemm_backend_from_environment();
  return backend == GemmBackend::cublaslt || backend == GemmBackend::automatic;
}

}  // namespace

FreeMemory CudaMemory::free_memory() const {
  return {info_.free_bytes, "the free memory of the CUDA device"};
}

uint64_t CudaMemory::linear_bytes(std::span<const Matrix> layers, WeightFormat format) const {
  uint64_t bytes = 0, largest = 0, unpacked = 0;
  for (const Matrix& layer : layers) {
    // As in CudaOps::place_linear(): only layers that the packed kernels can read are packed.
    const bool packed = format != WeightFormat::f32 && packable(layer.cols);
    const uint64_t element = format == WeightFormat::bf16 ? 2 : 4;
    const uint64_t weights =
        bounded_product({static_cast<uint64_t>(layer.rows), static_cast<uint64_t>(layer.cols)});
    bytes += packed ? tiled_bytes(layer.rows, layer.cols, format) : weights * element;
    // CublasLt::reserve() gets more memory for every layer that is larger than all before it.
    if (packed && weights > largest) unpacked += largest = weights;
  }
  const bool unpacks = may_use_cublaslt() && format == WeightFormat::bf16;
  return bytes + (unpacks ? bounded_product({unpacked, sizeof(uint16_t)}) : 0);
}

uint64_t CudaMemory::buffer_bytes(uint64_t count) const {
  return bounded_product({count, sizeof(float) + sizeof(uint16_t)});
}

uint64_t CudaMemory::step_bytes(const OpsConfig& config) const {
  const auto rows = static_cast<uint64_t>(config.max_rows);
  const int64_t partials = max_step_partials(config);
  const uint64_t scores =
      bounded_product({static_cast<uint64_t>(partials), static_cast<uint64_t>(config.num_heads),
                       static_cast<uint64_t>(config.head_dim) + 2, sizeof(float)});
  const size_t words = max_step_words(config, partials, max_step_slots(config, sharing_from_environment()));
  const GemmScratch scratch = max_gemm_scratch(
      config.max_rows, {info_.multiprocessors, info_.capability, gemm_backend_from_environment()});
  const auto logit_rows = static_cast<uint64_t>(padded_rows(config.logit_rows(), config.max_rows));
  const uint64_t logits =
      bounded_product({logit_rows, static_cast<uint64_t>(config.vocab_size), sizeof(float)});
  const uint64_t draws = rows * (sizeof(TokenDraw) + sizeof(DrawnToken));
  const uint64_t rope = bounded_product(
      {static_cast<uint64_t>(config.max_context), 2, config.rope_frequencies.size(), sizeof(float)});
  // Of the all-reduce (cuda_rank.cpp).
  const uint64_t sums = ranks_ > 1
                            ? bounded_product({static_cast<uint64_t>(ranks_), rows,
                                               static_cast<uint64_t>(config.hidden_size), sizeof(float)})
                            : 0;
  const uint64_t drafts =
      static_cast<uint64_t>(config.draft_rows) *
      (kMaxDraftTokens * (sizeof(int32_t) + sizeof(float)) + 2 * sizeof(int32_t) + sizeof(float));
  const uint64_t copies = rows * sizeof(SlotCopy);
  const uint64_t workspace = may_use_cublaslt() ? kCublasLtWorkspaceBytes : 0;
  return scores + words * sizeof(int32_t) + bytes_of(scratch) + logits + draws + rope + sums + drafts +
         copies + workspace;
}

uint64_t CudaMemory::driver_bytes(const OpsConfig& config) const {
  if (!switched_on("APAR_CUDA_GRAPHS", true)) return 0;
  const auto layers = static_cast<uint64_t>(config.num_layers) + 1;
  return kMaxGraphs * layers * kGraphNodesPerLayer * kGraphNodeBytes;
}

}  // namespace apar::cuda
