#include "ops/cuda/emulator/emulate.h"

#include <deque>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "ops/cuda/emulator/emulate_hopper.h"
#include "ops/cuda/emulator/fiber.h"
#include "testing/guarded.h"

namespace apar::cuda::emulate {

constinit thread_local Position position;
Order order = Order::forward;

namespace {

constexpr int kMaxThreads = 1024;
constexpr int kNumberedBarriers = 16;
constexpr size_t kSharedAlignment = 1024;

struct Copy {
  void* to;
  const void* from;
  size_t bytes;
  bool valid;
};

struct Thread {
  Index index;
  bool finished = false;
  bool waited = false;                      // for the earlier kernels
  std::vector<Copy> open;                   // copies not yet committed
  std::deque<std::vector<Copy>> in_flight;  // committed groups, oldest first
};

// A barrier: threads that have arrived continue when its generation changes.
struct Barrier {
  int threads = 0;  // that a numbered barrier expects
  int arrived = 0;
  uint64_t generation = 0;
};

struct Warp {
  Barrier barrier;
  int lanes = 0;
  const char* kind = nullptr;
  std::array<const void*, kWarpSize> in{};
  std::array<void*, kWarpSize> out{};
};

struct Block {
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  Barrier barrier;
  const Overlap* overlap = nullptr;  // of a kernel that may begin before earlier ones have ended
  bool hides = false;                // Overlap::begins() was called
  Barrier earlier;                   // of the threads that wait for these
  std::array<Barrier, kNumberedBarriers> numbered;
  int live = 0;
  unsigned char* shared = nullptr;
  size_t shared_bytes = 0;
  uint64_t progress = 0;  // changes whenever a waiting thread may be able to continue
  uint64_t rounds = 0;    // in which each warp has run as far as it can
};

thread_local Block block;
thread_local std::vector<Fiber> fibers;
thread_local int running = 0;
thread_local std::string failure;

void release(Barrier& barrier) {
  barrier.arrived = 0;
  ++barrier.generation;
  ++block.progress;
}

void wait(Barrier& barrier) {
  const uint64_t generation = barrier.generation;
  while (barrier.generation == generation) yield_fiber();
}

void perform(const std::vector<Copy>& group) {
  for (const Copy& copy : group) {
    if (copy.valid)
      std::memcpy(copy.to, copy.from, copy.bytes);
    else
      std::memset(copy.to, 0, copy.bytes);
  }
}

void run_warp(int warp) {
  uint64_t before;
  do {
    before = block.progress;
    for (int step = 0; step < kWarpSize; ++step) {
      running = warp * kWarpSize + (order == Order::forward ? step : kWarpSize - 1 - step);
      if (block.threads[running].finished) continue;
      position.thread = block.threads[running].index;
      fibers[running].resume();
      if (!failure.empty()) throw std::logic_error(std::exchange(failure, {}));
    }
  } while (block.progress != before);
}

void run_block(const std::function<void()>& thread) {
  const int count = static_cast<int>(block.threads.size());
  while (static_cast<int>(fibers.size()) < count) fibers.emplace_back();
  block.live = count;
  for (int i = 0; i < count; ++i) {
    block.threads[i] = {{static_cast<uint32_t>(i), 0, 0}, false, false, {}, {}};
    fibers[i].start([&thread, i] {
      thread();
      if (block.overlap != nullptr && !block.threads[i].waited)
        fail("a thread has ended without waiting for the earlier kernels");
      block.threads[i].finished = true;
      --block.live;
      ++block.progress;
      // Threads that have returned no longer take part in block barriers.
      if (block.live > 0 && block.barrier.arrived == block.live) release(block.barrier);
    });
  }
  // A warp runs as long as it can before another warp runs. This exposes a missing barrier between warps.
  const int warps = count / kWarpSize;
  while (block.live > 0) {
    const uint64_t before = block.progress;
    ++block.rounds;
    for (int step = 0; step < warps; ++step) run_warp(order == Order::forward ? step : warps - 1 - step);
    if (block.progress == before)
      throw std::logic_error("deadlock: threads of a block wait at different barriers");
  }
}

}  // namespace

namespace {

void run_blocks(Index grid, uint32_t threads, size_t shared_bytes, const std::function<void()>& thread,
                const Overlap* overlap) {
  if (threads < 1 || threads > kMaxThreads || threads % kWarpSize != 0)
    throw std::logic_error("a block has whole warps and at most 1024 threads");
  const size_t rounded = (shared_bytes + kSharedAlignment - 1) / kSharedAlignment * kSharedAlignment;
  const Guarded<unsigned char> shared(rounded);
  block = {};
  block.threads.resize(threads);
  block.shared = shared.data();
  block.shared_bytes = shared_bytes;
  block.overlap = overlap;
  position.block_size = {threads, 1, 1};
  position.grid = grid;
  const uint64_t blocks = uint64_t{grid.x} * grid.y;
  for (uint64_t i = 0; i < blocks; ++i) {
    const uint64_t index = order == Order::forward ? i : blocks - 1 - i;
    position.block = {static_cast<uint32_t>(index % grid.x), static_cast<uint32_t>(index / grid.x), 0};
    std::memset(block.shared, 0xff, rounded);
    block.warps.assign(threads / kWarpSize, {});
    block.barrier = block.earlier = {};
    // Hiding memory takes long, so only in the first and the last block it is shown that nothing is accessed
    // early.
    block.hides = overlap != nullptr && (i == 0 || i + 1 == blocks);
    if (block.hides) overlap->begins();
    block.numbered = {};
    begin_hopper_block();
    run_block(thread);
    end_hopper_block();
    if (!failure.empty()) throw std::logic_error(std::exchange(failure, {}));
  }
}

}  // namespace

void run_grid(Index grid, uint32_t threads, size_t shared_bytes, const std::function<void()>& thread) {
  run_blocks(grid, threads, shared_bytes, thread, nullptr);
}

void run_overlapping(Index grid, uint32_t threads, size_t shared_bytes, const std::function<void()>& thread,
                     const Overlap& overlap) {
  run_blocks(grid, threads, shared_bytes, thread, &overlap);
}

// The earlier kernels end at the latest possible time: when all threads of the block wait.
void wait_for_earlier_kernels() {
  if (block.overlap == nullptr || std::exchange(block.threads[running].waited, true)) return;
  if (++block.earlier.arrived < static_cast<int>(block.threads.size())) return wait(block.earlier);
  if (block.hides) block.overlap->go_on();
  release(block.earlier);
}

unsigned char* shared_memory() {
  return block.shared;
}

void sync_block() {
  if (++block.barrier.arrived == block.live)
    release(block.barrier);
  else
    wait(block.barrier);
}

void sync_threads(int number, int threads) {
  if (number < 1 || number >= kNumberedBarriers || threads % kWarpSize != 0)
    return fail("a numbered barrier is from 1 to 15 and for whole warps");
  Barrier& barrier = block.numbered[static_cast<size_t>(number)];
  if (barrier.arrived == 0) barrier.threads = threads;
  if (barrier.threads != threads) fail("threads disagree about how many meet at a barrier");
  if (++barrier.arrived == threads)
    release(barrier);
  else
    wait(barrier);
}

void sync_warp(const char* kind, const void* in, void* out, Combine combine) {
  Warp& warp = block.warps[running / kWarpSize];
  const int lane = running % kWarpSize;
  if (warp.barrier.arrived == 0) warp.kind = kind;
  if (warp.kind != kind && std::strcmp(warp.kind, kind) != 0)
    failure = std::string("lanes of a warp execute ") + warp.kind + " and " + kind + " at the same time";
  warp.in[lane] = in;
  warp.out[lane] = out;
  if (++warp.barrier.arrived == kWarpSize) {
    combine(warp.in.data(), warp.out.data());
    release(warp.barrier);
  } else {
    wait(warp.barrier);
  }
}

int running_warp() {
  return running / kWarpSize;
}

void progress() {
  ++block.progress;
}

void let_others_run() {
  const uint64_t round = block.rounds;
  while (block.rounds == round) yield_fiber();
  progress();
}

void fail(const char* what) {
  if (failure.empty()) failure = what;
}

bool check_shared(const void* at, size_t bytes, size_t alignment) {
  const auto* const from = static_cast<const unsigned char*>(at);
  if (from < block.shared || from + bytes > block.shared + block.shared_bytes ||
      reinterpret_cast<uintptr_t>(from) % alignment != 0) {
    fail("an access is misaligned or out of shared memory");
    return false;
  }
  return true;
}

void copy_async(void* shared, const void* global, size_t bytes, bool valid) {
  auto* const to = static_cast<unsigned char*>(shared);
  if (valid && reinterpret_cast<uintptr_t>(global) % bytes != 0) fail("an asynchronous copy is misaligned");
  if (check_shared(to, bytes, bytes)) std::memset(to, 0xff, bytes);
  block.threads[running].open.push_back({shared, global, bytes, valid});
}

void copy_commit() {
  Thread& thread = block.threads[running];
  thread.in_flight.push_back(std::exchange(thread.open, {}));
}

void copy_wait(int groups_left) {
  Thread& thread = block.threads[running];
  while (static_cast<int>(thread.in_flight.size()) > groups_left) {
    perform(thread.in_flight.front());
    thread.in_flight.pop_front();
  }
}

}  // namespace apar::cuda::emulate
