#include "ops/cuda/cuda_rank.h"

#include <utility>

#include "common/error.h"
#include "ops/cuda/cuda_ops.h"
#include "ops/cuda/elementwise/elementwise.h"

namespace apar::cuda {
namespace {

// Gathers the partial results of all ranks with an all-gather and adds them on every device. NCCL's
// all-reduce would move less data between more than two devices. But its order of additions depends on the
// size, so that a row's bits would depend on the other rows.
class CudaCommunicator final : public Communicator {
 public:
  CudaCommunicator(CudaOps& ops, int32_t rank, std::shared_ptr<NcclGroup> group, float* gathered)
      : ops_(ops), rank_(rank), group_(std::move(group)), gathered_(gathered) {}

  void all_reduce(float* y, int32_t rows, int32_t width) override {
    ops_.enqueue(rows, [&](Stream stream, int32_t padded_rows) {
      const int64_t count = int64_t{padded_rows} * width;
      group_->all_gather(rank_, y, gathered_, static_cast<size_t>(count), stream);
      add_partials(stream, group_->ranks(), count, gathered_, y);
    });
  }

  void abort() override { group_->abort(rank_); }

 private:
  CudaOps& ops_;
  int32_t rank_;
  std::shared_ptr<NcclGroup> group_;
  float* gathered_;  // [ranks][max_rows][hidden_size]
};

}  // namespace

Rank make_cuda_rank(const OpsConfig& config, int32_t rank, std::unique_ptr<Device> device,
                    std::shared_ptr<NcclGroup> group) {
  const size_t sums = static_cast<size_t>(group->ranks()) * config.max_rows * config.hidden_size;
  auto* const gathered = static_cast<float*>(device->allocate(sums * sizeof(float), "sums over the devices"));
  auto ops = std::make_unique<CudaOps>(config, std::move(device));
  auto communicator = std::make_unique<CudaCommunicator>(*ops, rank, std::move(group), gathered);
  return {std::move(communicator), std::move(ops)};
}

}  // namespace apar::cuda
