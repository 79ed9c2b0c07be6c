// The device memory of CudaOps: activations, weights, the KV pool.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "common/convert.h"
#include "common/error.h"
#include "common/in_parallel.h"
#include "ops/cuda/cuda_ops.h"
#include "ops/cuda/gemm/weight_tiles.h"
#include "ops/cuda/memory_plan.h"

namespace apar::cuda {
namespace {

constexpr size_t kStagingBytes = size_t{16} << 20;

}  // namespace

CudaOps::CudaOps(const OpsConfig& config, std::unique_ptr<Device> device)
    : config_(config),
      shape_{config.num_heads, config.num_kv_heads, config.head_dim},
      device_(std::move(device)),
      stream_{device_->stream().handle, switched_on("APAR_CUDA_PDL", false)},
      work_(sharing_, attention_bytes(shape_.group(), shape_.head_dim, config.kv_format)),
      graphs_(*device_, switched_on("APAR_CUDA_GRAPHS", true)),
      // A row of bf16 tiles is the largest unit that is staged, larger than a row that is not packed.
      staging_(*device_, std::max(kStagingBytes, tile_row_bytes(config.max_inputs, WeightFormat::bf16))) {
  allocate_kv();
  limits_.partials = max_step_partials(config);
  limits_.slots = max_step_slots(config, sharing_);
  const size_t scores = static_cast<size_t>(limits_.partials) * config.num_heads;
  attention_partials_.sums =
      static_cast<float*>(device_->allocate(scores * config.head_dim * sizeof(float), "partial attention"));
  attention_partials_.scales =
      static_cast<float*>(device_->allocate(scores * 2 * sizeof(float), "partial attention"));
  max_step_words_ = max_step_words(config, limits_.partials, limits_.slots);
  pinned_step_ = static_cast<int32_t*>(device_->allocate_pinned(max_step_words_ * sizeof(int32_t)));
  step_ = static_cast<StepHeader*>(device_->allocate(max_step_words_ * sizeof(int32_t), "step data"));
  gemm_device_ = {device_->info().multiprocessors, device_->info().capability, gemm_backend_,
                  cublaslt_ != nullptr};
  scratch_ = max_gemm_scratch(config.max_rows, gemm_device_);
  partials_ = static_cast<float*>(device_->allocate(scratch_.partials * sizeof(float), "partial sums"));
  arrived_ = static_cast<int32_t*>(device_->allocate(scratch_.arrived * sizeof(int32_t), "counters"));
  max_logits_ = size_t{1} * padded(config.logit_rows()) * config.vocab_size;
  logits_ = static_cast<float*>(device_->allocate(max_logits_ * sizeof(float), "logits"));
  const size_t draws = config.max_rows * sizeof(TokenDraw), drawn = config.max_rows * sizeof(DrawnToken);
  draws_ = static_cast<TokenDraw*>(device_->allocate(draws, "draws"));
  pinned_draws_ = static_cast<TokenDraw*>(device_->allocate_pinned(draws));
  drawn_ = static_cast<DrawnToken*>(device_->allocate(drawn, "draws"));
  pinned_drawn_ = static_cast<DrawnToken*>(device_->allocate_pinned(drawn));
  allocate_drafts();
  attention_blocks_ = attention_mma_supports(shape_, config.kv_format)
                          ? attention_mma_blocks(shape_, config.kv_format)
                          : attention_plain_blocks(shape_, config.kv_format);
  limits_.busy_items = tiles_of(attention_blocks_, config.num_kv_heads);
  if (config.time_steps) timer_ = device_->make_timer();
  fill_rope_table();
}

void CudaOps::allocate_kv() {
  const uint64_t bytes = kv_pool_bytes(config_, config_.num_blocks);
  const uint64_t free = device_->info().free_bytes;
  if (bytes > free)
    throw Error(ErrorCode::out_of_memory, "the KV pool of " + std::to_string(config_.num_blocks) +
                                              " blocks takes " + std::to_string(bytes) +
                                              " bytes, the device has " + std::to_string(free) + " free");
  const uint64_t tokens = pool_tokens() * config_.num_layers;
  const uint64_t side = tokens * config_.head_dim * element_bytes(config_.kv_format);
  keys_ = static_cast<std::byte*>(device_->allocate(side, "KV pool"));
  values_ = static_cast<std::byte*>(device_->allocate(side, "KV pool"));
  if (config_.kv_format == KvFormat::fp8)
    kv_scales_ = static_cast<KvScale*>(device_->allocate(tokens * sizeof(KvScale), "KV pool"));
}

// Tokens of one layer's pool, counted once per KV head.
uint64_t CudaOps::pool_tokens() const {
  return uint64_t{1} * config_.num_blocks * config_.num_kv_heads * kBlockTokens;
}

KvLayer CudaOps::kv_layer(int32_t layer) const {
  const uint64_t token = pool_tokens() * static_cast<uint64_t>(layer);
  const uint64_t offset = token * config_.head_dim * element_bytes(config_.kv_format);
  return {keys_ + offset, values_ + offset, config_.kv_format,
          kv_scales_ == nullptr ? nullptr : kv_scales_ + token};
}

// As on the CPU (ops/cpu/cpu_attention.cpp), angles are rounded to f32 like those of transformers.
void CudaOps::fill_rope_table() {
  const std::vector<float>& frequencies = config_.rope_frequencies;
  const size_t pairs = frequencies.size();
  if (pairs == 0) return;
  const double scale = config_.rope_scale;
  const size_t positions = static_cast<size_t>(config_.max_context);
  const size_t row_bytes = pairs * 2 * sizeof(float);
  rope_ = static_cast<float*>(device_->allocate(positions * row_bytes, "rotary angles"));
  staging_.stream(rope_, positions, row_bytes, [&](size_t first, size_t count, std::byte* piece) {
    auto* const table = reinterpret_cast<float*>(piece);
    in_parallel(count, [&](size_t row) {
      for (size_t i = 0; i < pairs; ++i) {
        const float angle = static_cast<float>(first + row) * frequencies[i];
        table[(row * pairs + i) * 2] = static_cast<float>(std::cos(double{angle}) * scale);
        table[(row * pairs + i) * 2 + 1] = static_cast<float>(std::sin(double{angle}) * scale);
      }
    });
  });
}

void CudaOps::upload_all(void* to, const void* from, size_t bytes) {
  staging_.stream(to, bytes, 1, [&](size_t first, size_t count, std::byte* piece) {
    std::memcpy(piece, static_cast<const std::byte*>(from) + first, count);
  });
}

// Calls pack(tile, where) for every row of tiles. Packing takes longer than the copy, so all cores pack.
template <class Pack>
void CudaOps::upload_tiles(int32_t tiles, size_t row_bytes, void* to, Pack pack) {
  staging_.stream(
      to, static_cast<size_t>(tiles), row_bytes, [&](size_t first, size_t count, std::byte* piece) {
        in_parallel(count, [&](size_t i) { pack(static_cast<int32_t>(first + i), piece + i * row_bytes); });
      });
}

float* CudaOps::allocate(size_t count, Axis /*axis*/) {
  auto* const data = static_cast<float*>(device_->allocate(count * sizeof(float), "activations"));
  buffers_[data] = {count,
                    static_cast<uint16_t*>(device_->allocate(count * sizeof(uint16_t), "activations"))};
  return data;
}

Matrix CudaOps::place(const Matrix& host, Axis /*axis*/) {
  const size_t bytes = static_cast<size_t>(stored_bytes(host.dtype, host.rows * host.cols));
  void* const data = device_->allocate(bytes, "weights");
  upload_all(data, host.data, bytes);
  return {data, host.dtype, host.rows, host.cols};
}

Linear CudaOps::place_linear(const Matrix& host, WeightFormat format, LinearAxes /*axes*/) {
  auto placed = std::make_unique<PlacedLinear>();
  placed->packed = format != WeightFormat::f32 && packable(host.cols);
  if (placed->packed) {
    void* const data = device_->allocate(tiled_bytes(host.rows, host.cols, format), "weights");
    upload_tiles(tiles_of(host.rows, kTileOuts), tile_row_bytes(host.cols, format), data,
                 [&](int32_t tile, std::byte* to) { pack_tiles(host, format, tile, to); });
    placed->weights = data;
    if (cublaslt_ && format == WeightFormat::bf16) cublaslt_->reserve(host.rows * host.cols);
  } else {
    if (format != WeightFormat::f32 && format != WeightFormat::bf16 && format != WeightFormat::f16)
      throw Error(ErrorCode::unavailable,
                  std::string(to_string(format)) + " layers of " + std::to_string(host.cols) +
                      " inputs, not a multiple of 8, are not supported on this device");
    placed->plain_dtype = format == WeightFormat::bf16 ? DType::bf16 : DType::f32;
    const auto rows = static_cast<size_t>(host.rows);
    const size_t row_bytes = static_cast<size_t>(stored_bytes(placed->plain_dtype, host.cols));
    void* const data = device_->allocate(rows * row_bytes, "weights");
    staging_.stream(data, rows, row_bytes, [&](size_t first, size_t count, std::byte* piece) {
      const Matrix part = row_slice(host, static_cast<int64_t>(first), static_cast<int64_t>(count));
      convert(static_cast<const std::byte*>(part.data), part.dtype, part.rows * part.cols, piece,
              placed->plain_dtype);
    });
    placed->weights = data;
  }
  linears_.push_back(std::move(placed));
  return {linears_.back().get(), format, host.rows, host.cols};
}

// As much memory as for two layers. Both handles are the same, by which gated_matmul() knows a pair.
GatedLinears CudaOps::place_gated(const Matrix& gate, const Matrix& up, WeightFormat format,
                                  LinearAxes axes) {
  if (!fusion_ || format == WeightFormat::f32 || !packable(gate.cols) || !stored_alike(gate, up))
    return Ops::place_gated(gate, up, format, axes);
  auto placed = std::make_unique<PlacedLinear>();
  placed->packed = true;
  void* const data = device_->allocate(2 * tiled_bytes(gate.rows, gate.cols, format), "weights");
  upload_tiles(pair_tiles(gate.rows), tile_row_bytes(gate.cols, format), data,
               [&](int32_t tile, std::byte* to) { pack_pair_tiles(gate, up, format, tile, to); });
  placed->weights = data;
  if (cublaslt_ && format == WeightFormat::bf16) cublaslt_->reserve(gate.rows * gate.cols);
  linears_.push_back(std::move(placed));
  const Linear pair = {linears_.back().get(), format, gate.rows, gate.cols};
  return {pair, pair};
}

}  // namespace apar::cuda
