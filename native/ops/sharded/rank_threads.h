#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace apar {

// One thread per rank. All of them run the same calls in the same order, each at its own pace; the poster
// goes on meanwhile. One thread posts and waits.
class RankThreads {
 public:
  using Call = std::function<void(int32_t rank)>;

  // on_failure() is called once, by the first rank whose call throws: those that wait for it must be told.
  // at_end(rank) is the last thing that a rank's thread runs, whatever has happened. Neither may throw.
  RankThreads(int32_t ranks, std::function<void()> on_failure, Call at_end);
  // Ends the threads after what was posted.
  ~RankThreads();
  RankThreads(const RankThreads&) = delete;
  RankThreads& operator=(const RankThreads&) = delete;

  // After a failure calls are dropped.
  void post(Call call);
  // Returns when every rank has run all calls. Throws what a rank threw first, now and ever after.
  void wait();

 private:
  struct alignas(64) Done {
    std::atomic<uint64_t> calls = 0;
  };

  void run(int32_t rank);
  void end();
  void fail(std::exception_ptr error);

  // A call is written before it is counted and overwritten only after all ranks are past it.
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
