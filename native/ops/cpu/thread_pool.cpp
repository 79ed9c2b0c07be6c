#include "ops/cpu/thread_pool.h"

#include <algorithm>
#include <string>
#include <system_error>
#include <utility>

#include "common/error.h"

namespace apar::cpu {
namespace {

// About 30 us: longer than the serial parts of a forward pass, and short enough not to disturb other
// programs.
constexpr int32_t kSpins = 1500;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits until the value differs from `old`: first spins a limited number of times, then sleeps.
void wait_for_change(const std::atomic<uint32_t>& value, uint32_t old, int32_t spins) {
  for (int32_t i = 0; i < spins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    pause();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int32_t threads) {
  // With more threads than cores, a thread that spins delays the thread that it waits for.
  spins_ = static_cast<uint32_t>(threads) > std::thread::hardware_concurrency() ? 0 : kSpins;
  try {
    workers_.reserve(threads - 1);
    for (int32_t thread = 1; thread < threads; ++thread)
      workers_.emplace_back([this, thread] { work(thread); });
  } catch (const std::system_error& error) {
    stop();
    throw Error(ErrorCode::out_of_memory, std::string("cannot start a thread: ") + error.what());
  }
}

ThreadPool::~ThreadPool() {
  stop();
}

void ThreadPool::stop() {
  stopping_.store(true, std::memory_order_relaxed);
  loops_.fetch_add(1, std::memory_order_release);
  loops_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
}

void ThreadPool::run(int64_t count, Call call, void* context) {
  if (count <= 0) return;
  if (count == 1 || workers_.empty()) {
    for (int64_t index = 0; index < count; ++index) call(context, index, 0);
    return;
  }
  call_.store(call, std::memory_order_relaxed);
  context_.store(context, std::memory_order_relaxed);
  count_.store(static_cast<uint32_t>(count), std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  const uint64_t loop = (ticket_.load(std::memory_order_relaxed) >> 32) + 1;
  ticket_.store(loop << 32 | static_cast<uint64_t>(count), std::memory_order_release);
  loops_.fetch_add(1, std::memory_order_release);
  loops_.notify_all();

  take_indices(0);
  for (uint32_t done; (done = done_.load(std::memory_order_acquire)) != count;)
    wait_for_change(done_, done, spins_);
  if (failed_.load(std::memory_order_relaxed)) {
    failed_.store(false, std::memory_order_relaxed);
    std::rethrow_exception(std::exchange(failure_, nullptr));
  }
}

void ThreadPool::work(int32_t thread) {
  uint32_t seen = 0;
  while (true) {
    wait_for_change(loops_, seen, spins_);
    seen = loops_.load(std::memory_order_acquire);
    if (stopping_.load(std::memory_order_relaxed)) return;
    take_indices(thread);
  }
}

void ThreadPool::take_indices(int32_t thread) {
  uint64_t ticket = ticket_.load(std::memory_order_acquire);
  while (static_cast<uint32_t>(ticket) != 0) {
    const Call call = call_.load(std::memory_order_relaxed);
    void* const context = context_.load(std::memory_order_relaxed);
    const uint32_t count = count_.load(std::memory_order_relaxed);
    const auto left = static_cast<uint32_t>(ticket);
    // Guided self-scheduling (Polychronopoulos and Kuck, 1987): large shares first, because each one moves a
    // cache line between cores; small ones last, so that no thread waits long for another.
    const uint32_t taken = std::max(left / (2 * static_cast<uint32_t>(threads())), 1u);
    if (!ticket_.compare_exchange_weak(ticket, ticket - taken, std::memory_order_acq_rel,
                                       std::memory_order_acquire))
      continue;
    for (uint32_t i = 0; i < taken; ++i) call_guarded(call, context, count - left + i, thread);
    // After this addition the loop may have ended and the next one may have begun, so its data is not read
    // again.
    if (done_.fetch_add(taken, std::memory_order_acq_rel) + taken == count) done_.notify_one();
    ticket = ticket_.load(std::memory_order_acquire);
  }
}

void ThreadPool::call_guarded(Call call, void* context, int64_t index, int32_t thread) {
  if (failed_.load(std::memory_order_relaxed)) return;
  try {
    call(context, index, thread);
  } catch (...) {
    const std::lock_guard lock(failure_mutex_);
    if (!failure_) failure_ = std::current_exception();
    failed_.store(true, std::memory_order_relaxed);
  }
}

}  // namespace apar::cpu
