#include "ops/cuda/cuda_ops.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "common/error.h"
#include "ops/cuda/elementwise/draw.h"
#include "ops/cuda/step/step_buffer.h"

namespace apar::cuda {

std::string CudaOps::device() const {
  const DeviceInfo& info = device_->info();
  return "cuda " + info.name + " sm_" + std::to_string(info.capability);
}

const CudaOps::Buffer& CudaOps::buffer(const float* data) const {
  const auto found = buffers_.find(data);
  if (found == buffers_.end())
    throw Error(ErrorCode::internal, "an operation's buffer is not from allocate()");
  return found->second;
}

int32_t CudaOps::padded(int32_t rows) const {
  return padded_rows(rows, config_.max_rows);
}

// The floats of a row: buffers hold max_rows rows.
int32_t CudaOps::width_of(const float* data) const {
  return static_cast<int32_t>(buffer(data).count / static_cast<size_t>(config_.max_rows));
}

// The host prepares the step while the device may still run the previous one, if that ended without logits or
// tokens.
void CudaOps::begin_step(const StepBatch& batch) {
  graphs_.abandon();  // discards the previous step if an error ended it between two operations
  work_.build(batch, shape_.group(), limits_);
  if (work_.num_partials() > limits_.partials)
    throw Error(ErrorCode::internal, "a step's partial results exceed their buffer");
  write_step(batch, work_, words_);
  if (words_.size() > max_step_words_)
    throw Error(ErrorCode::internal, "a step's arrays exceed their buffer");
  if (in_flight_) wait();
  std::memcpy(pinned_step_, words_.data(), words_.size() * sizeof(int32_t));
  if (timer_ != nullptr) timer_->start();
  device_->upload(step_, pinned_step_, words_.size() * sizeof(int32_t));
  in_flight_ = true;
  rows_ = batch.rows();
  const auto logit_rows = static_cast<int32_t>(batch.logit_rows.size());
  graphs_.begin({padded(rows_), padded(logit_rows), logit_rows < rows_});
}

void CudaOps::finish_step() {
  // Replayed operations launch nothing before this point: the device's time starts here.
  if (timer_ != nullptr && graphs_.replaying()) timer_->start();
  graphs_.finish();
}

void CudaOps::wait() {
  device_->synchronize();
  all_done();
}

// The device has read all pinned memory.
void CudaOps::all_done() {
  in_flight_ = picks_.in_flight = tokens_.in_flight = copies_.in_flight = false;
}

void CudaOps::embed(const Matrix& table, float* x) {
  enqueue(rows_, [&](Stream stream, int32_t rows) {
    cuda::embed(stream, step_, rows, table.data, table.dtype, static_cast<int32_t>(table.cols), x);
  });
}

void CudaOps::rms_norm(float* x, const float* residual, const float* weight, int32_t num_rows, int32_t width,
                       float eps, float* out) {
  enqueue(num_rows, [&](Stream stream, int32_t rows) {
    add_rms_norm(stream, rows, width, eps, x, residual, weight, out, buffer(out).bf16);
  });
}

void CudaOps::rope_and_store(int32_t layer, float* q, float* k, const float* v,
                             const HeadTransform& transform) {
  const auto pairs = static_cast<int32_t>(config_.rope_frequencies.size());
  const Rotation rotation = {rope_, transform.rotate ? pairs : 0};
  const HeadNorms norms = {transform.q_norm, transform.k_norm, transform.norm_eps};
  enqueue(rows_, [&](Stream stream, int32_t rows) {
    cuda::rope_and_store(stream, step_, rows, shape_, norms, rotation, q, k, v, kv_layer(layer));
  });
}

void CudaOps::attention(int32_t layer, const float* q, float* out) {
  enqueue(rows_, [&](Stream stream, int32_t rows) {
    const auto kernel = attention_mma_supports(shape_, config_.kv_format) ? attention_mma : attention_plain;
    kernel(stream, step_, shape_, q, kv_layer(layer), attention_partials_, attention_grid_);
    attention_merge(stream, step_, rows, shape_, attention_partials_, out, buffer(out).bf16);
  });
}

void CudaOps::swiglu(float* gate, const float* up, size_t count) {
  const int64_t width = width_of(gate);
  enqueue(static_cast<int32_t>(static_cast<int64_t>(count) / width), [&](Stream stream, int32_t rows) {
    cuda::swiglu(stream, rows * width, gate, up, buffer(gate).bf16);
  });
}

// row_ids are the batch's logit rows, which the kernel reads from the step's data.
void CudaOps::gather_rows(const float* x, std::span<const int32_t> row_ids, int32_t width, float* out) {
  enqueue(static_cast<int32_t>(row_ids.size()), [&](Stream stream, int32_t rows) {
    gather_logit_rows(stream, step_, rows, width, x, out, buffer(out).bf16);
  });
}

void CudaOps::matmul(const float* x, int32_t num_rows, std::span<const Projection> projections) {
  enqueue(num_rows, [&](Stream /*stream*/, int32_t rows) {
    multiply({x, buffer(x).bf16, rows}, projections);
  });
}

void CudaOps::gated_matmul(const float* x, int32_t num_rows, const Projection& gate, const Projection& up) {
  if (gate.w.data != up.w.data) return Ops::gated_matmul(x, num_rows, gate, up);
  enqueue(num_rows, [&](Stream /*stream*/, int32_t rows) {
    multiply_pair({x, buffer(x).bf16, rows}, gate, up);
  });
}

GemmCall CudaOps::call_of(const Inputs& inputs) const {
  GemmCall call;
  call.rows = inputs.rows;
  call.x = inputs.x;
  call.x_bf16 = inputs.bf16;
  call.partials = partials_;
  call.arrived = arrived_;
  return call;
}

GemmPlan CudaOps::plan_of(const GemmCall& call, WeightFormat format) const {
  return plan_gemm(call.rows, call.tiles, tiles_of(call.in, kTileInputs), format, gemm_device_);
}

// Multiplies all layers in one launch: layers of one input are packed alike.
void CudaOps::multiply(const Inputs& inputs, std::span<const Projection> projections) {
  GemmCall call = call_of(inputs);
  const PlacedLinear& first = *static_cast<const PlacedLinear*>(projections[0].w.data);
  static_assert(cuda::kMaxProjections >= static_cast<int32_t>(apar::kMaxProjections));
  if (projections.size() > kMaxProjections)
    throw Error(ErrorCode::internal, "too many projections of one input");
  for (const Projection& projection : projections) {
    const auto& placed = *static_cast<const PlacedLinear*>(projection.w.data);
    const auto outs = static_cast<int32_t>(projection.w.rows);
    call.projections[call.num_projections++] = {placed.weights, projection.y, outs, call.tiles,
                                                projection.bias};
    call.tiles += tiles_of(outs, kTileOuts);
    call.in = static_cast<int32_t>(projection.w.cols);
  }
  if (!first.packed) return plain_gemm(stream_, call, first.plain_dtype);
  const WeightFormat format = projections[0].w.format;
  const GemmPlan plan = plan_of(call, format);
  if (plan.kernel == GemmKernel::cublaslt) return cublaslt_->multiply(call);
  run(call, format, plan);
}

// Writes gate.y as f32 only where a product will read it so: where the layer after it is not packed.
void CudaOps::multiply_pair(const Inputs& inputs, const Projection& gate, const Projection& up) {
  GemmCall call = call_of(inputs);
  const void* const weights = static_cast<const PlacedLinear*>(gate.w.data)->weights;
  const auto outs = static_cast<int32_t>(gate.w.rows);
  call.tiles = pair_tiles(outs);
  call.in = static_cast<int32_t>(gate.w.cols);
  const GemmPlan plan = plan_of(call, gate.w.format);
  if (plan.kernel == GemmKernel::cublaslt) {
    for (const auto& [half, layer] : {std::pair(PairHalf::gate, gate), {PairHalf::up, up}})
      call.projections[call.num_projections++] = {weights, layer.y, outs, 0, layer.bias, half};
    cublaslt_->multiply(call);
    return cuda::swiglu(stream_, int64_t{call.rows} * outs, gate.y, up.y, buffer(gate.y).bf16);
  }
  call.projections[call.num_projections++] = {weights, packable(outs) ? nullptr : gate.y, outs, 0, gate.bias};
  call.gated = {buffer(gate.y).bf16, up.bias};
  run(call, gate.w.format, plan);
}

void CudaOps::run(const GemmCall& call, WeightFormat format, const GemmPlan& plan) {
  const GemmScratch needed = gemm_scratch(plan, call.rows, call.tiles);
  if (needed.partials > scratch_.partials || needed.arrived > scratch_.arrived)
    throw Error(ErrorCode::internal, "the partial sums of a product exceed their buffer");
  packed_gemm(stream_, call, format, plan);
}

// The step's graph ends with this product; later launches are not part of it.
void CudaOps::compute_logits(const float* x, int32_t rows, const Linear& head) {
  if (static_cast<size_t>(padded(rows)) * head.rows > max_logits_)
    throw Error(ErrorCode::internal, "a step's logits exceed their buffer");
  const Projection projection = {head, logits_};
  matmul(x, rows, {&projection, 1});
  finish_step();
}

void CudaOps::logits(const float* x, int32_t rows, const Linear& head, std::span<float> out) {
  compute_logits(x, rows, head);
  if (timer_ != nullptr) timer_->stop();
  staging_.fetch(out.data(), logits_, out.size_bytes());
  all_done();
}

void CudaOps::draw_tokens(const float* x, int32_t rows, const Linear& head, std::span<const TokenDraw> draws,
                          std::span<DrawnToken> drawn) {
  compute_logits(x, rows, head);
  std::memcpy(pinned_draws_, draws.data(), draws.size_bytes());
  device_->upload(draws_, pinned_draws_, draws.size_bytes());
  cuda::draw_tokens(stream_, logits_, rows, static_cast<int32_t>(head.rows), draws_, drawn_);
  if (timer_ != nullptr) timer_->stop();
  device_->download(pinned_drawn_, drawn_, drawn.size_bytes());
  wait();
  std::memcpy(drawn.data(), pinned_drawn_, drawn.size_bytes());
}

}  // namespace apar::cuda
