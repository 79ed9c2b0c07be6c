// The threads of devices that share a model: all run the same calls in the same order at any speed, and a
// failure of one ends all.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>

#include "ops/sharded/rank_threads.h"

using namespace apar;

TEST_CASE("every rank runs every call in order, also when one is slow and the ring is full") {
  constexpr int32_t kRanks = 3, kCalls = 20'000;
  std::vector<std::vector<int32_t>> seen(kRanks);
  std::atomic<int> ended = 0;
  {
    RankThreads threads(
        kRanks, [] {}, [&](int32_t) { ++ended; });
    for (int32_t call = 0; call < kCalls; ++call) {
      threads.post([&, call](int32_t rank) {
        if (rank == 1 && call % 1000 == 0) std::this_thread::yield();
        seen[static_cast<size_t>(rank)].push_back(call);
      });
    }
    threads.wait();
    for (const auto& calls : seen) {
      REQUIRE(calls.size() == kCalls);
      CHECK(std::is_sorted(calls.begin(), calls.end()));
    }
    threads.post([&](int32_t rank) { seen[static_cast<size_t>(rank)].clear(); });
  }
  CHECK(ended == kRanks);
  for (const auto& calls : seen) CHECK(calls.empty());  // posted calls run before the threads end
}

TEST_CASE("the first failure is reported once, unblocks waiting ranks, and wait() keeps throwing it") {
  std::atomic<int> failures = 0, later = 0, ended = 0;
  std::atomic<bool> reported = false;
  {
    RankThreads threads(
        2,
        [&] {
          ++failures;
          reported = true;
          reported.notify_all();
        },
        [&](int32_t) { ++ended; });
    threads.post([&](int32_t rank) {
      if (rank == 0) throw std::runtime_error("first");
      reported.wait(false);  // like an all-reduce that rank 0 never joins
      throw std::runtime_error("second");
    });
    threads.post([&](int32_t) { ++later; });
    CHECK_THROWS_WITH(threads.wait(), "first");
    threads.post([&](int32_t) { ++later; });
    CHECK_THROWS_WITH(threads.wait(), "first");
  }
  CHECK(failures == 1);
  CHECK(ended == 2);
  CHECK(later == 0);
}
