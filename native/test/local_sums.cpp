#include "test/local_sums.h"

#include <algorithm>

#include "core/error.h"

namespace apar::test {

void LocalSums::add_up(int32_t rank, float* values, size_t count) {
  values_[static_cast<size_t>(rank)] = values;
  meeting_.meet();
  std::vector<float> sums(values_.front(), values_.front() + count);
  for (size_t other = 1; other < values_.size(); ++other)
    std::transform(sums.begin(), sums.end(), values_[other], sums.begin(),
                   [](float a, float b) { return a + b; });
  meeting_.meet();  // all have read what each now overwrites
  std::copy(sums.begin(), sums.end(), values);
}

void Meeting::abandon() {
  const std::lock_guard lock(mutex_);
  abandoned_ = true;
  met_.notify_all();
}

void Meeting::meet() {
  std::unique_lock lock(mutex_);
  const int64_t meeting = meetings_;
  if (++arrived_ == ranks_) {
    arrived_ = 0;
    ++meetings_;
    met_.notify_all();
  }
  met_.wait(lock, [&] { return meetings_ != meeting || abandoned_; });
  if (meetings_ == meeting) throw Error(ErrorCode::internal, "another rank has failed");
}

}  // namespace apar::test
