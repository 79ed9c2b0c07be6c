#pragma once

// Hopper's instructions on the host, as described in ops/cuda/device/hopper.cuh. A bulk copy fills its target
// with NaN when it is issued and completes when a thread waits for its barrier. wgmma fills its sums with NaN
// when it is issued; it reads shared memory and writes its sums when its group is waited for. So data that a
// kernel overwrites or reads too early shows up as NaN, or as an error where the emulator notices it: a copy
// over a tile that a wgmma in flight reads, a change of its registers, a missing fence, and products or
// copies in flight at the end of a block.

#include <cstdint>

namespace apar::cuda::emulate {

struct TensorMap {
  const uint16_t* x = nullptr;  // [rows, in]
  int32_t rows = 0, in = 0, box_rows = 0;
};

uint32_t shared_address(const void* pointer);

void barrier_init(uint64_t* barrier, uint32_t arrivals);
void barrier_arrive(uint64_t* barrier);
void barrier_arrive_expect(uint64_t* barrier, uint32_t bytes);
void barrier_wait(uint64_t* barrier, uint32_t parity);
inline void fence_async() {}

void bulk_copy(void* shared, const void* global, uint32_t bytes, uint64_t* barrier);
void box_copy(void* shared, const TensorMap& map, int input, int row, uint64_t* barrier);

// Each warp of a warpgroup computes its own 16 outputs.
void wgmma_columns(float* d, int columns, bool accumulates, const uint32_t* a, uint64_t a_descriptor,
                   uint64_t b_descriptor);
template <int kRows>
void wgmma(float (&d)[kRows / 2], uint64_t a, uint64_t b) {
  wgmma_columns(d, kRows, true, nullptr, a, b);
}
template <int kRows, bool kAccumulates = true>
void wgmma(float (&d)[kRows / 2], const uint32_t (&a)[4], uint64_t b) {
  wgmma_columns(d, kRows, kAccumulates, a, 0, b);
}
void wgmma_fence();
void wgmma_commit();
void wait_for_products(int groups_left);
template <int kGroups>
void wgmma_wait() {
  wait_for_products(kGroups);
}

void set_registers(int registers, bool takes);
template <int kRegisters>
void give_registers() {
  set_registers(kRegisters, false);
}
template <int kRegisters>
void take_registers() {
  set_registers(kRegisters, true);
}

// Called by run_grid() before and after every block.
void begin_hopper_block();
void end_hopper_block();

}  // namespace apar::cuda::emulate
