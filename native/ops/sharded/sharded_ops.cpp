#include "ops/sharded/sharded_ops.h"

#include <algorithm>
#include <array>
#include <utility>

#include "common/error.h"

namespace apar {
namespace {

// A part of a vector.
Matrix slice_of(const Matrix& vector, Range elements) {
  return {static_cast<const float*>(vector.data) + elements.begin, DType::f32, 1, elements.size()};
}

}  // namespace

ShardedOps::ShardedOps(const OpsConfig& config, int32_t ranks, const MakeRank& make_rank)
    : plan_(config, ranks),
      logits_(static_cast<size_t>(ranks)),
      ranks_(static_cast<size_t>(ranks)),
      threads_(
          ranks,
          [this] {
            if (!open_) return;  // no rank waits for another one yet
            for (const Rank& rank : ranks_) rank.communicator->abort();
          },
          [this](int32_t rank) {
            ranks_[static_cast<size_t>(rank)].ops.reset();
            ranks_[static_cast<size_t>(rank)].communicator.reset();
          }) {
  on_all([&](int32_t rank) { ranks_[static_cast<size_t>(rank)] = make_rank(plan_.config_of(rank), rank); });
  open_ = true;
}

void ShardedOps::on_all(RankThreads::Call call) {
  threads_.post(std::move(call));
  threads_.wait();
}

const ShardedOps::Shards& ShardedOps::shards(const void* data) const {
  const auto found = shards_.find(data);
  if (found == shards_.end())
    throw Error(ErrorCode::internal, "an operation's data is not from allocate() or place()");
  return found->second;
}

std::string ShardedOps::device() const {
  return std::to_string(plan_.ranks()) + " x " + ranks_.front().ops->device();
}

float* ShardedOps::allocate(size_t count, Axis axis) {
  Shards made{axis, std::vector<void*>(ranks_.size())};
  on_all([&](int32_t rank) {
    const size_t rows = axis == Axis::whole ? 1 : count / static_cast<size_t>(plan_.size(axis));
    const int64_t width = axis == Axis::whole ? static_cast<int64_t>(count) : plan_.size(axis);
    made.data[static_cast<size_t>(rank)] =
        ops(rank).allocate(rows * static_cast<size_t>(local(axis, width, rank)), axis);
  });
  void* const handle = made.data.front();
  shards_[handle] = std::move(made);
  return static_cast<float*>(handle);
}

Matrix ShardedOps::place(const Matrix& host, Axis axis) {
  Shards made{axis, std::vector<void*>(ranks_.size())};
  on_all([&](int32_t rank) {
    const Matrix shard = axis == Axis::whole ? host : slice_of(host, plan_.shard(axis, host.cols, rank));
    made.data[static_cast<size_t>(rank)] = const_cast<void*>(ops(rank).place(shard, axis).data);
  });
  void* const handle = made.data.front();
  shards_[handle] = std::move(made);
  return {handle, host.dtype, host.rows, host.cols};
}

Linear ShardedOps::place_linear(const Matrix& host, WeightFormat format, LinearAxes axes) {
  const int64_t group = group_inputs(format);
  auto made = std::make_unique<ShardedLinear>();
  made->axes = axes;
  made->shards.resize(ranks_.size());
  made->copies.resize(ranks_.size());
  on_all([&](int32_t rank) {
    const auto index = static_cast<size_t>(rank);
    const Range inputs = plan_.shard(axes.inputs, host.cols, rank);
    if (inputs.begin % group != 0)
      throw Error(ErrorCode::invalid_config,
                  std::string(to_string(format)) + " layers of " + std::to_string(host.cols) +
                      " inputs cannot be divided among " + std::to_string(plan_.ranks()) +
                      " devices: a shard is not a multiple of " + std::to_string(group));
    MatrixShard shard = shard_of(host, plan_.shard(axes.outputs, host.rows, rank), inputs);
    const Linear placed = ops(rank).place_linear(shard.matrix, format, axes);
    made->shards[index] = placed;
    if (placed.data == shard.matrix.data) made->copies[index] = std::move(shard.copy);
  });
  linears_.push_back(std::move(made));
  return {linears_.back().get(), format, host.rows, host.cols};
}

void ShardedOps::begin_step(const StepBatch& batch) {
  threads_.wait();  // the ranks may still read the previous batch
  batch_.assign(batch);
  threads_.post([this](int32_t rank) { ops(rank).begin_step(batch_.batch()); });
}

void ShardedOps::embed(const Matrix& table, float* x) {
  threads_.post([this, table, tables = &shards(table.data), x = &shards(x)](int32_t rank) {
    ops(rank).embed({tables->on(rank), table.dtype, table.rows, table.cols}, x->on(rank));
  });
}

void ShardedOps::rms_norm(float* x, const float* residual, const float* weight, int32_t rows, int32_t width,
                          float eps, float* out) {
  threads_.post([=, this, x = &shards(x), residual = residual == nullptr ? nullptr : &shards(residual),
                 weight = &shards(weight), out = &shards(out)](int32_t rank) {
    ops(rank).rms_norm(x->on(rank), residual == nullptr ? nullptr : residual->on(rank), weight->on(rank),
                       rows, width, eps, out->on(rank));
  });
}

// Where a layer's inputs are divided, every rank computes a partial sum of each output, and an all-reduce
// adds them. The bias is part of rank 0's sum, so that it is added once.
void ShardedOps::matmul(const float* x, int32_t rows, std::span<const Projection> projections) {
  struct Split {
    const ShardedLinear* w;
    const Shards *y, *bias;

    bool partial() const { return w->axes.inputs != Axis::whole; }
    const float* bias_on(int32_t rank) const {
      return bias == nullptr || (partial() && rank != 0) ? nullptr : bias->on(rank);
    }
    int32_t outputs;
  };
  if (projections.size() > kMaxProjections)
    throw Error(ErrorCode::internal, "too many projections of one input");
  std::array<Split, kMaxProjections> split{};
  std::transform(projections.begin(), projections.end(), split.begin(), [&](const Projection& projection) {
    return Split{static_cast<const ShardedLinear*>(projection.w.data), &shards(projection.y),
                 projection.bias == nullptr ? nullptr : &shards(projection.bias),
                 static_cast<int32_t>(projection.w.rows)};
  });
  threads_.post([this, x = &shards(x), rows, split, count = projections.size()](int32_t rank) {
    std::array<Projection, kMaxProjections> mine;
    for (size_t i = 0; i < count; ++i)
      mine[i] = {split[i].w->shards[static_cast<size_t>(rank)], split[i].y->on(rank), split[i].bias_on(rank)};
    ops(rank).matmul(x->on(rank), rows, std::span(mine).first(count));
    for (size_t i = 0; i < count; ++i)
      if (split[i].partial())
        ranks_[static_cast<size_t>(rank)].communicator->all_reduce(mine[i].y, rows, split[i].outputs);
  });
}

void ShardedOps::rope_and_store(int32_t layer, float* q, float* k, const float* v,
                                const HeadTransform& transform) {
  const auto shards_of = [&](const float* norm) { return norm == nullptr ? nullptr : &shards(norm); };
  threads_.post([this, layer, q = &shards(q), k = &shards(k), v = &shards(v), transform,
                 q_norm = shards_of(transform.q_norm), k_norm = shards_of(transform.k_norm)](int32_t rank) {
    HeadTransform mine = transform;
    if (q_norm != nullptr) mine.q_norm = q_norm->on(rank);
    if (k_norm != nullptr) mine.k_norm = k_norm->on(rank);
    ops(rank).rope_and_store(layer, q->on(rank), k->on(rank), v->on(rank), mine);
  });
}

void ShardedOps::attention(int32_t layer, const float* q, float* out) {
  threads_.post([this, layer, q = &shards(q), out = &shards(out)](int32_t rank) {
    ops(rank).attention(layer, q->on(rank), out->on(rank));
  });
}

void ShardedOps::swiglu(float* gate, const float* up, size_t count) {
  const Shards& gates = shards(gate);
  const size_t rows = count / static_cast<size_t>(plan_.size(gates.axis));
  threads_.post([this, rows, gate = &gates, up = &shards(up)](int32_t rank) {
    const int64_t width = local(gate->axis, plan_.size(gate->axis), rank);
    ops(rank).swiglu(gate->on(rank), up->on(rank), rows * static_cast<size_t>(width));
  });
}

// row_ids must be the batch's logit rows: the ranks read them from their copy of the batch.
void ShardedOps::gather_rows(const float* x, std::span<const int32_t> row_ids, int32_t width, float* out) {
  if (!std::ranges::equal(row_ids, batch_.batch().logit_rows))
    throw Error(ErrorCode::internal, "gather_rows() takes the batch's logit rows only");
  threads_.post([this, x = &shards(x), width, out = &shards(out)](int32_t rank) {
    ops(rank).gather_rows(x->on(rank), batch_.batch().logit_rows,
                          static_cast<int32_t>(local(x->axis, width, rank)), out->on(rank));
  });
}

void ShardedOps::end_step() {
  threads_.post([this](int32_t rank) { ops(rank).end_step(); });
}

double ShardedOps::step_seconds() {
  std::vector<double> seconds(ranks_.size());
  on_all([&](int32_t rank) { seconds[static_cast<size_t>(rank)] = ops(rank).step_seconds(); });
  return *std::ranges::max_element(seconds);
}

void ShardedOps::logits(const float* x, int32_t rows, const Linear& head, std::span<float> out) {
  const auto& split = *static_cast<const ShardedLinear*>(head.data);
  const Shards& inputs = shards(x);
  on_all([&](int32_t rank) {
    const auto index = static_cast<size_t>(rank);
    const Linear& shard = split.shards[index];
    std::vector<float>& mine = logits_[index];
    mine.resize(static_cast<size_t>(rows * shard.rows));
    ops(rank).logits(inputs.on(rank), rows, shard, mine);
  });
  float* to = out.data();
  for (int32_t row = 0; row < rows; ++row) {
    for (size_t rank = 0; rank < ranks_.size(); ++rank) {
      const int64_t width = split.shards[rank].rows;
      to = std::copy_n(logits_[rank].begin() + row * width, width, to);
    }
  }
}

}  // namespace apar
