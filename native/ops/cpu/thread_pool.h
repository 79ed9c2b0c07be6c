#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace apar::cpu {

// A fixed number of threads, including the caller's, that divide the indices of one loop at a time among
// them. A thread that the system does not schedule delays the others only by the indices that it has already
// taken.
class ThreadPool {
 public:
  // threads >= 1; with 1, loops run in the caller. Throws Error{out_of_memory} when the system refuses a
  // thread.
  explicit ThreadPool(int32_t threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int32_t threads() const { return static_cast<int32_t>(workers_.size()) + 1; }

  // Calls body(index, thread) once for every index in [0, count), with thread in [0, threads()), and returns
  // when all calls have returned; their writes are then visible. If a call throws, remaining indices may be
  // skipped and the first exception is thrown here. Must be called from one thread, never from within a body.
  // count < 2^32.
  template <class Body>
  void parallel_for(int64_t count, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run(
        count,
        [](void* context, int64_t index, int32_t thread) { (*static_cast<Plain*>(context))(index, thread); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Call = void (*)(void* context, int64_t index, int32_t thread);

  void run(int64_t count, Call call, void* context);
  void work(int32_t thread);
  void take_indices(int32_t thread);
  void call_guarded(Call call, void* context, int64_t index, int32_t thread);
  void stop();

  // The number of the loop in the upper half, the number of indices not yet taken in the lower. A successful
  // exchange proves that call_, context_ and count_ belonged to that loop: they change only after all of its
  // indices are done.
  alignas(64) std::atomic<uint64_t> ticket_{0};
  std::atomic<Call> call_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<uint32_t> count_{0};
  alignas(64) std::atomic<uint32_t> done_{0};
  alignas(64) std::atomic<uint32_t> loops_{0};  // idle workers wait for its change
  std::atomic<bool> stopping_{false};
  std::atomic<bool> failed_{false};
  std::mutex failure_mutex_;
  std::exception_ptr failure_;
  int32_t spins_ = 0;
  std::vector<std::thread> workers_;
};

}  // namespace apar::cpu
