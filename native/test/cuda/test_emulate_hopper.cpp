// The emulator of Hopper's instructions notices kernels that use a tile, or sums, too early or too late.
#include <doctest/doctest.h>

#include <cmath>
#include <stdexcept>
#include <vector>

#include "common/float16.h"
#include "ops/cuda/device/hopper.cuh"
#include "ops/cuda/emulator/emulate.h"

using namespace apar;
using namespace apar::cuda;

namespace {

constexpr int kRows = 32, kOuts = 64, kTiles = 6, kStages = 2, kTile = 64;
constexpr int kWeightBytes = kOuts * kTile * 2, kInputBytes = kRows * kTile * 2;
constexpr int kStageBytes = kWeightBytes + kInputBytes;
constexpr int kWarps = 4;  // that multiply; one more copies

enum class Mistake {
  none,
  stage_released_early,
  sums_read_early,
  sums_changed,
  no_fence,
  not_waited_for,
  registers_changed,
  copies_not_waited_for,
};

// A kernel like gemm_wgmma's: one warp fills stages, and four multiply them with a group of products in
// flight. All weights are 1, so that every output of a row is the sum of its inputs.
struct Kernel {
  Mistake mistake = Mistake::none;
  bool from_registers = false;
  std::vector<uint16_t> x = std::vector<uint16_t>(kRows * kTiles * kTile);
  std::vector<uint16_t> weights = std::vector<uint16_t>(kOuts * kTile, f32_to_bf16(1));
  std::vector<float> out = std::vector<float>(kOuts * kRows, 0.0f);

  Kernel() {
    for (size_t i = 0; i < x.size(); ++i) x[i] = f32_to_bf16(static_cast<float>(i % 7) + 1);
  }

  void thread() {
    unsigned char* const memory = shared_memory();
    auto* const full = reinterpret_cast<uint64_t*>(memory + kStages * kStageBytes);
    uint64_t* const empty = full + kStages;
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    if (threadIdx.x == 0)
      for (int i = 0; i < kStages; ++i) {
        barrier_init(full + i, 1);
        barrier_init(empty + i, kWarps);
      }
    __syncthreads();
    if (warp == kWarps) {
      if (lane == 0) fill(memory, full, empty);
    } else {
      multiply(memory, full, empty, warp, lane);
    }
  }

  void fill(unsigned char* memory, uint64_t* full, uint64_t* empty) {
    const TensorMap map = make_tensor_map(x.data(), kRows, kTiles * kTile, kRows);
    for (int k = 0; k < kTiles + (mistake == Mistake::copies_not_waited_for ? 1 : 0); ++k) {
      const int stage = k % kStages;
      barrier_wait(empty + stage, (k / kStages + 1) % 2);
      barrier_arrive_expect(full + stage, kStageBytes);
      box_copy(memory + stage * kStageBytes + kWeightBytes, map, k * kTile, 0, full + stage);
      bulk_copy(memory + stage * kStageBytes, weights.data(), kWeightBytes, full + stage);
    }
  }

  void multiply(unsigned char* memory, uint64_t* full, uint64_t* empty, int warp, int lane) {
    float sums[kRows / 2] = {};
    uint32_t ones[4] = {0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u};
    const auto release = [&](int k) {
      __syncwarp();
      if (lane == 0) barrier_arrive(empty + k % kStages);
    };
    for (int k = 0; k < kTiles; ++k) {
      const uint32_t stage = shared_address(memory + k % kStages * kStageBytes);
      barrier_wait(full + k % kStages, k / kStages % 2);
      if (mistake != Mistake::no_fence) wgmma_fence();
      for (int step = 0; step < kTile / 16; ++step) {
        const uint64_t inputs = matrix_descriptor(stage + kWeightBytes, step);
        if (from_registers)
          wgmma<kRows>(sums, ones, inputs);
        else
          wgmma<kRows>(sums, matrix_descriptor(stage, step), inputs);
      }
      wgmma_commit();
      if (mistake == Mistake::registers_changed) ones[lane % 4] = static_cast<uint32_t>(k);
      if (mistake == Mistake::sums_changed && k == 3) sums[lane % 16] = 0;
      if (mistake == Mistake::stage_released_early) {
        release(k);
        wgmma_wait<1>();
        continue;
      }
      wgmma_wait<1>();
      if (k > 0) release(k - 1);
    }
    if (mistake == Mistake::not_waited_for) return;
    if (mistake != Mistake::sums_read_early) wgmma_wait<0>();
    for (int i = 0; i < kRows / 2; ++i) {
      const int row = i / 4 * 8 + lane % 4 * 2 + i % 2, output = warp * 16 + lane / 4 + i / 2 % 2 * 8;
      out[static_cast<size_t>(output * kRows + row)] = sums[i];
    }
    wgmma_wait<0>();
    if (mistake == Mistake::copies_not_waited_for) release(kTiles - 1);
  }

  void run() {
    emulate::run_grid({1, 1, 1}, (kWarps + 1) * 32, kStages * (kStageBytes + 16), [this] { thread(); });
  }
};

// What the emulator says about a mistake, whichever threads run first.
void check_fails(Mistake mistake, const char* message, bool from_registers = false) {
  for (const emulate::Order order : {emulate::Order::forward, emulate::Order::backward}) {
    emulate::order = order;
    Kernel kernel;
    kernel.mistake = mistake;
    kernel.from_registers = from_registers;
    CHECK_THROWS_WITH_AS(kernel.run(), message, std::logic_error);
    // The next kernel does not see what was left in flight.
    Kernel next;
    CHECK_NOTHROW(next.run());
  }
  emulate::order = emulate::Order::forward;
}

}  // namespace

TEST_CASE("a group of products in flight while the next tile is multiplied gives the right sums") {
  for (const bool from_registers : {false, true}) {
    Kernel kernel;
    kernel.from_registers = from_registers;
    kernel.run();
    for (size_t row = 0; row < kRows; ++row) {
      float want = 0;
      for (size_t k = 0; k < kTiles * kTile; ++k) want += bf16_to_f32(kernel.x[row * kTiles * kTile + k]);
      for (size_t out = 0; out < kOuts; ++out) REQUIRE(kernel.out[out * kRows + row] == want);
    }
  }
}

TEST_CASE("a stage that is released before its products have ended") {
  for (const bool from_registers : {false, true})
    check_fails(Mistake::stage_released_early, "a copy overwrites what a wgmma in flight reads",
                from_registers);
}

TEST_CASE("sums that are read while a group is in flight are NaN") {
  Kernel kernel;
  kernel.mistake = Mistake::sums_read_early;
  kernel.run();
  for (const float value : kernel.out) REQUIRE(std::isnan(value));
}

TEST_CASE("sums and operands in registers that change in flight, and a missing fence") {
  check_fails(Mistake::sums_changed, "sums change that a wgmma in flight adds to");
  check_fails(Mistake::registers_changed, "registers change that a wgmma in flight reads", true);
  check_fails(Mistake::no_fence, "a wgmma without a wgmma.fence since its registers were accessed");
}

TEST_CASE("a block that ends before its products or its copies") {
  check_fails(Mistake::not_waited_for, "a block ends with a wgmma in flight");
  check_fails(Mistake::copies_not_waited_for, "a block ends before its bulk copies have arrived");
}

TEST_CASE("a numbered barrier holds back the threads that meet there, and no others") {
  const auto run = [](int others) {
    std::vector<int> seen(64, -1);
    int written = 0;
    emulate::run_grid({1, 1, 1}, 96, 0, [&] {
      const int thread = static_cast<int>(threadIdx.x);
      if (thread >= 64) return;
      if (thread < 32) ++written;
      emulate::sync_threads(1, thread < 32 ? 64 : others);
      seen[static_cast<size_t>(thread)] = written;
    });
    return seen;
  };
  CHECK(run(64) == std::vector<int>(64, 32));
  CHECK_THROWS_AS(run(32), std::logic_error);
}

TEST_CASE("setmaxnreg: a warpgroup takes registers that others have given back, and waits for them") {
  // 12 warps begin with 168 registers a thread.
  const auto run = [](bool given, bool whole_warpgroup = true) {
    emulate::run_grid({1, 1, 1}, 384, 0, [&] {
      const int warp = static_cast<int>(threadIdx.x) / 32;
      if (warp < 8)
        take_registers<232>();
      else if (given && (whole_warpgroup || warp != 11))
        give_registers<40>();
    });
  };
  for (const emulate::Order order : {emulate::Order::forward, emulate::Order::backward}) {
    emulate::order = order;
    CHECK_NOTHROW(run(true));
    CHECK_THROWS_AS(run(false), std::logic_error);        // a deadlock
    CHECK_THROWS_AS(run(true, false), std::logic_error);  // of the warps that share a quarter with warp 11
  }
  emulate::order = emulate::Order::forward;
  CHECK_THROWS_AS(emulate::run_grid({1, 1, 1}, 384, 0, [] { take_registers<160>(); }), std::logic_error);
  CHECK_THROWS_AS(emulate::run_grid({1, 1, 1}, 384, 0, [] { give_registers<42>(); }), std::logic_error);
}
