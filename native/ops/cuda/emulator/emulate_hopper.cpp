#include "ops/cuda/emulator/emulate_hopper.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "common/float16.h"
#include "ops/cuda/emulator/emulate.h"
#include "ops/cuda/emulator/fiber.h"

namespace apar::cuda::emulate {
namespace {

constexpr int kDepth = 16, kRowsPerWarp = 16;  // of a wgmma
constexpr int kRowBytes = 128;                 // of a tile

// The contents of a barrier's eight bytes.
struct Barrier {
  uint16_t arrivals;      // expected per phase
  uint16_t pending : 15;  // arrivals still missing in the current phase
  uint16_t parity : 1;    // of the current phase
  int32_t bytes;          // expected and not yet copied
};
static_assert(sizeof(Barrier) == sizeof(uint64_t));

struct Copy {
  unsigned char* to;
  std::vector<unsigned char> data;
};
// Copies in flight, by the barrier that they signal.
thread_local std::map<const uint64_t*, std::vector<Copy>> copies;

Barrier load(const uint64_t* at) {
  Barrier barrier;
  std::memcpy(&barrier, at, sizeof(barrier));
  return barrier;
}

void store(uint64_t* at, Barrier barrier) {
  if (barrier.pending == 0 && barrier.bytes == 0) {
    barrier.parity ^= 1;
    barrier.pending = barrier.arrivals;
  }
  std::memcpy(at, &barrier, sizeof(barrier));
  progress();
}

void arrive(uint64_t* at, uint32_t bytes) {
  Barrier barrier = load(at);
  if (barrier.pending == 0) fail("more threads arrive at a barrier than it expects");
  --barrier.pending;
  barrier.bytes += static_cast<int32_t>(bytes);
  store(at, barrier);
}

void start_copy(void* shared, std::vector<unsigned char> data, uint64_t* barrier) {
  auto* const to = static_cast<unsigned char*>(shared);
  if (!check_shared(to, data.size(), 16)) return;
  std::memset(to, 0xff, data.size());
  copies[barrier].push_back({to, std::move(data)});
}

// Element (row, k) of a matrix whose rows run along k, with the 128-byte swizzle (PTX ISA, "Asynchronous
// Warpgroup Level Matrix Shared Memory Layout").
float element(uint64_t descriptor, int row, int k) {
  const auto field = [&](int first, int bits) {
    return static_cast<uint32_t>(descriptor >> first & ((uint64_t{1} << bits) - 1));
  };
  if (field(62, 2) != 1 || field(49, 3) != 0) fail("a matrix descriptor without 128-byte swizzle");
  const uint32_t start = field(0, 14) * 16, groups = field(32, 14) * 16;
  uint32_t address = start + row / 8 * groups + row % 8 * kRowBytes + k * 2;
  address ^= (address >> 7 & 7) << 4;
  const unsigned char* const from = shared_memory() + address;
  if (!check_shared(from, 2, 2)) return 0;
  uint16_t bits;
  std::memcpy(&bits, from, 2);
  return bf16_to_f32(bits);
}

struct Product {
  struct Lane {
    float* d;
    uint32_t a[4];
  };
  Lane lanes[kWarpSize];
  int warp, columns;
  bool a_in_registers;
  uint64_t a, b;
};
thread_local std::map<int, std::vector<Product>> products;  // issued and not yet waited for, by warp

struct ProductIn {
  float* d;
  const uint32_t* a;
  int warp, columns;
  uint64_t a_descriptor, b_descriptor;
};

void issue(const void* const* ins, void* const*) {
  const ProductIn& first = *static_cast<const ProductIn*>(ins[0]);
  Product product{{}, first.warp, first.columns, first.a != nullptr, first.a_descriptor, first.b_descriptor};
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const ProductIn& in = *static_cast<const ProductIn*>(ins[lane]);
    if (in.a_descriptor != first.a_descriptor || in.b_descriptor != first.b_descriptor)
      fail("the lanes of a warp pass different matrix descriptors");
    product.lanes[lane].d = in.d;
    if (in.a != nullptr) std::copy_n(in.a, 4, product.lanes[lane].a);
  }
  products[first.warp].push_back(product);
}

void perform(const Product& product) {
  float a[kRowsPerWarp][kDepth];
  for (int lane = 0; lane < kWarpSize && product.a_in_registers; ++lane)
    for (int i = 0; i < 8; ++i)
      a[lane / 4 + 8 * (i / 2 % 2)][lane % 4 * 2 + i % 2 + 8 * (i / 4)] =
          bf16_to_f32(static_cast<uint16_t>(product.lanes[lane].a[i / 2] >> 16 * (i % 2)));
  for (int row = 0; row < kRowsPerWarp && !product.a_in_registers; ++row)
    for (int k = 0; k < kDepth; ++k) a[row][k] = element(product.a, product.warp % 4 * kRowsPerWarp + row, k);
  for (int column = 0; column < product.columns; ++column) {
    float b[kDepth];
    for (int k = 0; k < kDepth; ++k) b[k] = element(product.b, column, k);
    for (int row = 0; row < kRowsPerWarp; ++row) {
      double sum = 0;
      for (int k = 0; k < kDepth; ++k) sum += double{a[row][k]} * b[k];
      float& d = product.lanes[row % 8 * 4 + column % 8 / 2].d[column / 8 * 4 + row / 8 * 2 + column % 2];
      d = static_cast<float>(d + sum);
    }
  }
}

}  // namespace

uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(static_cast<const unsigned char*>(pointer) - shared_memory());
}

void barrier_init(uint64_t* barrier, uint32_t arrivals) {
  if (!check_shared(barrier, sizeof(*barrier), sizeof(*barrier))) return;
  copies[barrier].clear();
  store(barrier, {static_cast<uint16_t>(arrivals), static_cast<uint16_t>(arrivals & 0x7fffu), 0, 0});
}

void barrier_arrive(uint64_t* barrier) {
  arrive(barrier, 0);
}

void barrier_arrive_expect(uint64_t* barrier, uint32_t bytes) {
  arrive(barrier, bytes);
}

void barrier_wait(uint64_t* barrier, uint32_t parity) {
  while (load(barrier).parity == parity) {
    if (load(barrier).pending == 0 && !copies[barrier].empty()) {
      for (const Copy& copy : std::exchange(copies[barrier], {})) {
        std::memcpy(copy.to, copy.data.data(), copy.data.size());
        Barrier changed = load(barrier);
        changed.bytes -= static_cast<int32_t>(copy.data.size());
        store(barrier, changed);
      }
      continue;
    }
    yield_fiber();
  }
}

void bulk_copy(void* shared, const void* global, uint32_t bytes, uint64_t* barrier) {
  if (reinterpret_cast<uintptr_t>(global) % 16 != 0 || bytes % 16 != 0) fail("a bulk copy is misaligned");
  const auto* const from = static_cast<const unsigned char*>(global);
  start_copy(shared, {from, from + bytes}, barrier);
}

void box_copy(void* shared, const TensorMap& map, int input, int row, uint64_t* barrier) {
  if (map.in % 8 != 0) fail("the rows of a tensor map are not a multiple of 16 bytes");
  std::vector<unsigned char> box(static_cast<size_t>(map.box_rows) * kRowBytes, 0);
  for (int i = 0; i < map.box_rows * kRowBytes / 2; ++i) {
    const int x_row = row + i / (kRowBytes / 2), x_input = input + i % (kRowBytes / 2);
    const uint32_t at = static_cast<uint32_t>(i) * 2;
    if (x_row < map.rows && x_input < map.in)
      std::memcpy(box.data() + (at ^ ((at >> 7 & 7) << 4)), map.x + int64_t{x_row} * map.in + x_input, 2);
  }
  check_shared(shared, box.size(), 1024);  // the pattern of the swizzle begins at multiples of 1024
  start_copy(shared, std::move(box), barrier);
}

void wgmma_columns(float* d, int columns, const uint32_t* a, uint64_t a_descriptor, uint64_t b_descriptor) {
  const ProductIn in = {d, a, running_warp(), columns, a_descriptor, b_descriptor};
  sync_warp("wgmma", &in, nullptr, issue);
}

void wgmma_fence() {
  sync_warp("wgmma.fence", nullptr, nullptr, [](const void* const*, void* const*) {});
}

void wgmma_finish() {
  const int warp = running_warp();
  sync_warp("wgmma.wait", &warp, nullptr, [](const void* const* ins, void* const*) {
    for (const Product& product : std::exchange(products[*static_cast<const int*>(ins[0])], {}))
      perform(product);
  });
}

}  // namespace apar::cuda::emulate
