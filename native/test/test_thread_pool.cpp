#include <doctest/doctest.h>

#include <cstdlib>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/error.h"
#include "ops/cpu/cpu_features.h"
#include "ops/cpu/thread_pool.h"

using namespace apar;
using namespace apar::cpu;

TEST_CASE("parallel_for calls every index once, and the caller sees the results") {
  for (const int32_t threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    CHECK(pool.threads() == threads);
    for (const int64_t count : {0, 1, 2, 7, 1000}) {
      for (int loop = 0; loop < 50; ++loop) {
        std::vector<int> calls(count, 0);  // plain ints: a race would show under TSan
        pool.parallel_for(count, [&](int64_t index, int32_t thread) {
          REQUIRE(thread >= 0);
          REQUIRE(thread < threads);
          ++calls[index];
        });
        CHECK(calls == std::vector<int>(count, 1));
      }
    }
  }
}

TEST_CASE("calls that run at the same time have different thread numbers") {
  ThreadPool pool(4);
  std::vector<int64_t> sums(4, 0);
  for (int loop = 0; loop < 200; ++loop)
    pool.parallel_for(64, [&](int64_t index, int32_t thread) { sums[thread] += index; });
  CHECK(std::accumulate(sums.begin(), sums.end(), int64_t{0}) == 200 * 64 * 63 / 2);
}

TEST_CASE("an exception reaches the caller, and the pool can be used again") {
  for (const int32_t threads : {1, 3}) {
    ThreadPool pool(threads);
    for (int loop = 0; loop < 20; ++loop) {
      CHECK_THROWS_WITH_AS(pool.parallel_for(100,
                                             [](int64_t index, int32_t) {
                                               if (index % 10 == 3) throw std::runtime_error("index");
                                             }),
                           "index", std::runtime_error);
      std::vector<int> calls(100, 0);
      pool.parallel_for(100, [&](int64_t index, int32_t) { ++calls[index]; });
      CHECK(calls == std::vector<int>(100, 1));
    }
  }
}

TEST_CASE("pools can be created and destroyed, used or not") {
  for (int round = 0; round < 50; ++round) {
    ThreadPool pool(3);
    if (round % 2 == 0) pool.parallel_for(3, [](int64_t, int32_t) {});
  }
}

TEST_CASE("APAR_CPU selects an instruction set or gives an error with the reason") {
  const char* const before = std::getenv("APAR_CPU");
  const std::string saved = before == nullptr ? "" : before;
  CHECK(supported(Isa::reference));
  for (const Isa isa : kAllIsas) {
    ::setenv("APAR_CPU", to_string(isa), 1);
    if (supported(isa)) {
      CHECK(select_isa() == isa);
    } else {
      CHECK_THROWS_AS(select_isa(), Error);
    }
  }
  ::setenv("APAR_CPU", "avx1024", 1);
  try {
    select_isa();
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::unavailable);
    CHECK(std::string(error.what()).find("avx1024") != std::string::npos);
  }
  ::unsetenv("APAR_CPU");
  CHECK(supported(select_isa()));
  if (before != nullptr) ::setenv("APAR_CPU", saved.c_str(), 1);
}
