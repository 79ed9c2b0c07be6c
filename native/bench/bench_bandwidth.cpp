// Measures the memory bandwidth of plain reads. It sets the floor of every decoding step.
//   build/release/bench/bench_bandwidth [threads] [mebibytes] [seconds]
// Prints one JSON line: {"threads", "bytes", "gb_per_s" (median), "best_gb_per_s"}. A buffer larger than the
// caches measures memory, a smaller one measures a cache.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "bench/clock.h"
#include "ops/cpu/memory.h"
#include "ops/cpu/thread_pool.h"

using namespace apar;
using bench::now_s;

namespace {

constexpr int64_t kPieceBytes = 256 * 1024;

// As far ahead as products prefetch weights: the processor's own prefetching ends with a page.
constexpr int64_t kPrefetchWords = 4096 / 8;

// Independent sums, which the compiler vectorizes, so that the additions never limit the speed.
uint64_t read_all(const uint64_t* words, int64_t count) {
  uint64_t sums[32] = {};
  for (int64_t i = 0; i + 32 <= count; i += 32) {
    for (int64_t line = 0; line < 32; line += 8) __builtin_prefetch(words + i + line + kPrefetchWords);
    for (int64_t lane = 0; lane < 32; ++lane) sums[lane] += words[i + lane];
  }
  uint64_t total = 0;
  for (const uint64_t sum : sums) total += sum;
  return total;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  const int64_t bytes = (argc > 2 ? std::atoll(argv[2]) : 512) << 20;
  const double seconds = argc > 3 ? std::atof(argv[3]) : 1.0;
  const cpu::AlignedBytes buffer = cpu::allocate_aligned(static_cast<size_t>(bytes), "bandwidth buffer");
  for (int64_t i = 0; i < bytes; i += 4096) buffer.get()[i] = static_cast<std::byte>(i);
  cpu::ThreadPool pool(threads);
  const int64_t pieces = bytes / kPieceBytes;
  std::vector<uint64_t> sums(static_cast<size_t>(pieces));
  std::vector<double> samples;
  for (const double end = now_s() + seconds; samples.size() < 3 || now_s() < end;) {
    const double begun = now_s();
    pool.parallel_for(pieces, [&](int64_t piece, int32_t) {
      const auto* words = reinterpret_cast<const uint64_t*>(buffer.get() + piece * kPieceBytes);
      sums[static_cast<size_t>(piece)] = read_all(words, kPieceBytes / 8);
    });
    samples.push_back(static_cast<double>(pieces * kPieceBytes) / (now_s() - begun) / 1e9);
  }
  uint64_t total = 0;
  for (const uint64_t sum : sums) total += sum;
  std::sort(samples.begin(), samples.end());
  std::printf("{\"threads\":%d,\"bytes\":%lld,\"gb_per_s\":%.2f,\"best_gb_per_s\":%.2f,\"check\":%llu}\n",
              threads, static_cast<long long>(pieces * kPieceBytes), samples[samples.size() / 2],
              samples.back(), static_cast<unsigned long long>(total));
}
