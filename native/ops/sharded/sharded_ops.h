#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "ops/ops.h"
#include "ops/sharded/communicator.h"
#include "ops/sharded/owned_batch.h"
#include "ops/sharded/rank_threads.h"
#include "ops/sharded/sharded_plan.h"

namespace apar {

// One of the devices that share a model.
struct Rank {
  std::unique_ptr<Communicator> communicator;  // may use `ops`, but not in its destructor
  std::unique_ptr<Ops> ops;
};
// Opens a rank. Is called on the rank's own thread.
using MakeRank = std::function<Rank(const OpsConfig& config, int32_t rank)>;

// Tensor parallelism: several devices of one machine act as one (docs/adr/0011). Every rank has a thread and
// runs the same operations in the same order on its shard of the model. The partial results of a layer whose
// inputs are divided are added by an all-reduce. A step's batch, block numbers and slots are the same on all
// ranks.
//
// A pointer or Linear that this object returns stands for a shard on every rank. A row's bits are independent
// of other rows (ops.h) for a given number of ranks; another number of ranks adds in another order. After a
// failure every operation fails.
class ShardedOps final : public Ops {
 public:
  // Throws Error{invalid_config} for a model that cannot be divided by `ranks`, and what make_rank throws.
  ShardedOps(const OpsConfig& config, int32_t ranks, const MakeRank& make_rank);

  std::string device() const override;
  float* allocate(size_t count, Axis axis) override;
  Matrix place(const Matrix& host, Axis axis) override;
  // int8 and int4 are quantised in groups of 32 inputs. Throws Error{invalid_config} if a group would be
  // divided between ranks.
  Linear place_linear(const Matrix& host, WeightFormat format, LinearAxes axes) override;
  void begin_step(const StepBatch& batch) override;
  void embed(const Matrix& table, float* x) override;
  void rms_norm(float* x, const float* residual, const float* weight, int32_t rows, int32_t width, float eps,
                float* out) override;
  void matmul(const float* x, int32_t rows, std::span<const Projection> projections) override;
  void rope_and_store(int32_t layer, float* q, float* k, const float* v,
                      const HeadTransform& transform) override;
  void attention(int32_t layer, const float* q, float* out) override;
  void swiglu(float* gate, const float* up, size_t count) override;
  void gather_rows(const float* x, std::span<const int32_t> row_ids, int32_t width, float* out) override;
  void logits(const float* x, int32_t rows, const Linear& head, std::span<float> out) override;
  void pick_rows(const float* x, std::span<const int32_t> row_ids, int32_t width, float* out) override;
  void pick_embeddings(const Matrix& table, std::span<const int32_t> tokens, float* out) override;
  void add(const float* x, const float* y, int32_t rows, int32_t width, float* out) override;
  void add_silu(const float* x, const float* y, int32_t rows, int32_t width, float* out,
                int32_t first_row) override;
  void top_tokens(const float* x, int32_t rows, std::span<const Linear> heads, int32_t vocab, int32_t top_k,
                  std::span<TokenLogit> top, std::span<float> log_sums) override;
  void copy_slots(std::span<const SlotCopy> copies) override;
  void end_step() override;
  double step_seconds() override;  // of the slowest rank

 private:
  // The addresses of activations or of a placed matrix on every rank. Callers hold the address on rank 0.
  struct Shards {
    Axis axis = Axis::whole;
    std::vector<void*> data;
    float* on(int32_t rank) const { return static_cast<float*>(data[static_cast<size_t>(rank)]); }
  };
  // Linear::data points to this.
  struct ShardedLinear {
    LinearAxes axes;
    std::vector<Linear> shards;
    std::vector<std::vector<std::byte>> copies;  // [rank], for a device that reads the host's memory
  };

  const Shards& shards(const void* data) const;
  Ops& ops(int32_t rank) { return *ranks_[static_cast<size_t>(rank)].ops; }
  // How many of `size` elements along an axis lie on a rank.
  int64_t local(Axis axis, int64_t size, int32_t rank) const { return plan_.shard(axis, size, rank).size(); }
  // Runs call(rank) on every rank and waits.
  void on_all(RankThreads::Call call);

  ShardPlan plan_;
  std::unordered_map<const void*, Shards> shards_;
  std::vector<std::unique_ptr<ShardedLinear>> linears_;
  OwnedBatch batch_;
  std::vector<std::vector<float>> logits_;  // [rank][rows * shard of the vocabulary]
  std::vector<Rank> ranks_;
  bool open_ = false;    // all ranks are open
  RankThreads threads_;  // the last member: its threads use all the others
};

}  // namespace apar
