#include "testing/local_communicator.h"

#include <algorithm>

#include "common/error.h"

namespace apar {

void LocalAllReduce::all_reduce(int32_t rank, float* values, size_t count) {
  values_[static_cast<size_t>(rank)] = values;
  barrier_.wait();
  std::vector<float> sums(values_.front(), values_.front() + count);
  for (size_t other = 1; other < values_.size(); ++other)
    std::transform(sums.begin(), sums.end(), values_[other], sums.begin(),
                   [](float a, float b) { return a + b; });
  barrier_.wait();  // every rank has read the values that the next line overwrites
  std::copy(sums.begin(), sums.end(), values);
}

void AbortableBarrier::abort() {
  const std::lock_guard lock(mutex_);
  aborted_ = true;
  changed_.notify_all();
}

void AbortableBarrier::wait() {
  std::unique_lock lock(mutex_);
  const int64_t generation = generation_;
  if (++arrived_ == ranks_) {
    arrived_ = 0;
    ++generation_;
    changed_.notify_all();
  }
  changed_.wait(lock, [&] { return generation_ != generation || aborted_; });
  if (generation_ == generation) throw Error(ErrorCode::internal, "another rank has failed");
}

}  // namespace apar
