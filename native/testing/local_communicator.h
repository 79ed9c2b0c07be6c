#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "ops/sharded/communicator.h"

namespace apar {

// A barrier for the threads of all ranks.
class AbortableBarrier {
 public:
  explicit AbortableBarrier(int32_t ranks) : ranks_(ranks) {}
  // Returns when all ranks have arrived. Throws Error{internal} after abort().
  void wait();
  void abort();

 private:
  const int32_t ranks_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int32_t arrived_ = 0;
  int64_t generation_ = 0;
  bool aborted_ = false;
};

// An all-reduce within this process, for ranks whose memory is host memory.
class LocalAllReduce {
 public:
  explicit LocalAllReduce(int32_t ranks) : values_(static_cast<size_t>(ranks)), barrier_(ranks) {}

  // Every rank calls it with the same `count`; afterwards every rank has the sum. Throws like
  // AbortableBarrier.
  void all_reduce(int32_t rank, float* values, size_t count);
  void abort() { barrier_.abort(); }

 private:
  std::vector<const float*> values_;  // [rank]
  AbortableBarrier barrier_;
};

class LocalCommunicator final : public Communicator {
 public:
  LocalCommunicator(std::shared_ptr<LocalAllReduce> sums, int32_t rank)
      : group_(std::move(sums)), rank_(rank) {}

  void all_reduce(float* y, int32_t rows, int32_t width) override {
    group_->all_reduce(rank_, y, static_cast<size_t>(rows) * static_cast<size_t>(width));
  }
  void abort() override { group_->abort(); }

 private:
  std::shared_ptr<LocalAllReduce> group_;
  int32_t rank_;
};

}  // namespace apar
