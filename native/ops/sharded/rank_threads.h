#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace apar {

// One thread per rank. All of them run the same calls in the same order, asynchronously to each other and to
// the caller. post() and wait() must be called from one thread.
class RankThreads {
 public:
  using Call = std::function<void(int32_t rank)>;

  // on_failure() is called once, by the first rank whose call throws: it must release ranks that wait for
  // that rank. at_end(rank) is called last on each rank's thread, also after a failure. Neither may throw.
  RankThreads(int32_t ranks, std::function<void()> on_failure, Call at_end);
  // Ends the threads after all posted calls.
  ~RankThreads();
  RankThreads(const RankThreads&) = delete;
  RankThreads& operator=(const RankThreads&) = delete;

  // Queues a call for every rank. After a failure, calls are discarded.
  void post(Call call);
  // Returns when every rank has run all calls. If a rank has thrown, throws the first exception, in every
  // later call too.
  void wait();

 private:
  struct alignas(64) Done {
    std::atomic<uint64_t> calls = 0;
  };

  void run(int32_t rank);
  void end();
  void fail(std::exception_ptr error);

  // A slot is written before posted_ counts it, and is overwritten only after all ranks have run its call.
  std::vector<Call> ring_;
  std::atomic<uint64_t> posted_ = 0;
  std::vector<Done> done_;  // [ranks]
  std::atomic<bool> failed_ = false;
  std::mutex error_mutex_;
  std::exception_ptr error_;
  const std::function<void()> on_failure_;
  const Call at_end_;
  std::vector<std::jthread> threads_;
};

}  // namespace apar
