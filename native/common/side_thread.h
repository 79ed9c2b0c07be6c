#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace apar {

// A thread that does one piece of work beside its owner's. It starts with the first one.
class SideThread {
 public:
  SideThread() = default;
  ~SideThread();
  SideThread(const SideThread&) = delete;
  SideThread& operator=(const SideThread&) = delete;

  // Begins the work, which must not touch what the caller touches before finish(). finish() must follow.
  void begin(std::function<void()> work);
  // Waits for the end of the work. Throws what it has thrown.
  void finish();

 private:
  void run();

  std::mutex mutex_;  // guards the members below
  std::condition_variable changed_;
  std::function<void()> work_;  // empty: there is none
  std::exception_ptr failure_;
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace apar
