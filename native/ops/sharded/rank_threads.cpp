#include "ops/sharded/rank_threads.h"

#include <utility>

namespace apar {
namespace {

constexpr size_t kRingCalls = 2048;  // more than a step of a deep model

}  // namespace

RankThreads::RankThreads(int32_t ranks, std::function<void()> on_failure, Call at_end)
    : ring_(kRingCalls),
      done_(static_cast<size_t>(ranks)),
      on_failure_(std::move(on_failure)),
      at_end_(std::move(at_end)) {
  try {
    for (int32_t rank = 0; rank < ranks; ++rank) threads_.emplace_back([this, rank] { run(rank); });
  } catch (...) {
    end();
    throw;
  }
}

RankThreads::~RankThreads() {
  try {
    wait();
  } catch (...) {
    // wait() has reported the error already, or the owner no longer needs it.
  }
  end();
}

// Ends the threads with an empty call. All ranks must have finished all calls before.
void RankThreads::end() {
  ring_[posted_ % kRingCalls] = nullptr;
  ++posted_;
  posted_.notify_all();
}

void RankThreads::post(Call call) {
  if (failed_) return;
  const uint64_t at = posted_;
  for (const Done& done : done_)
    for (uint64_t seen = done.calls; at - seen >= kRingCalls; seen = done.calls) done.calls.wait(seen);
  ring_[at % kRingCalls] = std::move(call);
  posted_ = at + 1;
  posted_.notify_all();
}

void RankThreads::wait() {
  const uint64_t all = posted_;
  for (const Done& done : done_)
    for (uint64_t seen = done.calls; seen != all; seen = done.calls) done.calls.wait(seen);
  const std::lock_guard lock(error_mutex_);
  if (error_) std::rethrow_exception(error_);
}

void RankThreads::run(int32_t rank) {
  std::atomic<uint64_t>& done = done_[static_cast<size_t>(rank)].calls;
  for (uint64_t next = 0;; ++next) {
    posted_.wait(next);
    const Call& call = ring_[next % kRingCalls];
    if (!call) break;
    try {
      if (!failed_) call(rank);
    } catch (...) {
      fail(std::current_exception());
    }
    done = next + 1;
    done.notify_all();
  }
  at_end_(rank);
}

void RankThreads::fail(std::exception_ptr error) {
  {
    const std::lock_guard lock(error_mutex_);
    if (failed_) return;
    error_ = std::move(error);
    failed_ = true;
  }
  on_failure_();
}

}  // namespace apar
