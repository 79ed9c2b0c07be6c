#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <system_error>
#include <thread>
#include <vector>

namespace apar {

// Calls body(i) for every i in [0, count), on all cores, and returns when all calls have returned. `body`
// must not throw. For loading, where no pool of threads is at hand: each call starts its threads anew.
template <class Body>
void in_parallel(size_t count, const Body& body) {
  constexpr size_t kMaxWorkers = 16;
  const auto cores = std::clamp<size_t>(std::thread::hardware_concurrency(), 1, kMaxWorkers);
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i = next++; i < count; i = next++) body(i);
  };
  std::vector<std::jthread> others;
  try {
    for (size_t worker = 1; worker < std::min(cores, count); ++worker) others.emplace_back(work);
  } catch (const std::system_error&) {
    // The system refuses another thread: those that run do all of the work.
  }
  work();
}

}  // namespace apar
