#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "ops/communicator.h"

namespace apar::test {

// Where the threads of all ranks wait for one another.
class Meeting {
 public:
  explicit Meeting(int32_t ranks) : ranks_(ranks) {}
  // Returns when all have come. Throws Error{internal} once abandoned.
  void meet();
  void abandon();

 private:
  const int32_t ranks_;
  std::mutex mutex_;
  std::condition_variable met_;
  int32_t arrived_ = 0;
  int64_t meetings_ = 0;
  bool abandoned_ = false;
};

// Adds up within this process: the ranks' memory is the host's.
class LocalSums {
 public:
  explicit LocalSums(int32_t ranks) : values_(static_cast<size_t>(ranks)), meeting_(ranks) {}

  // All ranks call it with as many values; afterwards each has the sum. Throws as Meeting.
  void add_up(int32_t rank, float* values, size_t count);
  void abandon() { meeting_.abandon(); }

 private:
  std::vector<const float*> values_;  // [rank]
  Meeting meeting_;
};

class LocalCommunicator final : public Communicator {
 public:
  LocalCommunicator(std::shared_ptr<LocalSums> sums, int32_t rank) : sums_(std::move(sums)), rank_(rank) {}

  void add_up(float* y, int32_t rows, int32_t width) override {
    sums_->add_up(rank_, y, static_cast<size_t>(rows) * static_cast<size_t>(width));
  }
  void abandon() override { sums_->abandon(); }

 private:
  std::shared_ptr<LocalSums> sums_;
  int32_t rank_;
};

}  // namespace apar::test
