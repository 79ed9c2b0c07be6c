#include "ops/cuda/emulator/emulate_hopper.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
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
constexpr int kPiece = 8;                      // elements of 16 bytes
constexpr int kWarpgroupRows = 64;             // of the tile in a, which four warps share
constexpr int kMaxWarps = 32;                  // of a block
constexpr int kMaxBoxRows = 256;
constexpr int kQuarters = 4;            // of a multiprocessor, with their own warps and registers
constexpr int kQuarterRegisters = 512;  // per lane
constexpr int kMaxThreadRegisters = 255;

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

// The kDepth elements of row `row` of a matrix whose rows run along k, with the 128-byte swizzle (PTX ISA,
// "Asynchronous Warpgroup Level Matrix Shared Memory Layout"), which keeps 16 bytes together.
void load_row(uint64_t descriptor, int row, float (&to)[kDepth]) {
  const auto field = [&](int first, int bits) {
    return static_cast<uint32_t>(descriptor >> first & ((uint64_t{1} << bits) - 1));
  };
  if (field(62, 2) != 1 || field(49, 3) != 0) fail("a matrix descriptor without 128-byte swizzle");
  const uint32_t start = field(0, 14) * 16, groups = field(32, 14) * 16;
  for (int first = 0; first < kDepth; first += kPiece) {
    uint32_t address = start + row / 8 * groups + row % 8 * kRowBytes + first * 2;
    address ^= (address >> 7 & 7) << 4;
    uint16_t bits[kPiece] = {};
    const unsigned char* const from = shared_memory() + address;
    if (check_shared(from, sizeof(bits), sizeof(bits))) std::memcpy(bits, from, sizeof(bits));
    for (int k = 0; k < kPiece; ++k) to[first + k] = bf16_to_f32(bits[k]);
  }
}

// Where the rows of a matrix that a descriptor names lie in shared memory.
struct Range {
  uint32_t begin, end;
};
Range range_of(uint64_t descriptor, int rows) {
  const auto begin = static_cast<uint32_t>(descriptor & 0x3fffu) * 16 / kRowBytes * kRowBytes;
  return {begin, begin + static_cast<uint32_t>(rows) * kRowBytes};
}

struct Product {
  struct Lane {
    float* d;
    const uint32_t* a;  // null: a lies in shared memory
    uint32_t a_then[4];
  };
  Lane lanes[kWarpSize];
  int warp, columns;
  bool accumulates;
  uint64_t a, b;

  bool a_in_registers() const { return lanes[0].a != nullptr; }
  bool reads(Range range) const {
    const auto meets = [&](Range own) { return own.begin < range.end && range.begin < own.end; };
    return meets(range_of(b, columns)) || (!a_in_registers() && meets(range_of(a, kWarpgroupRows)));
  }
};

// The sums that products in flight add to. The lanes' own are poisoned until none of them is in flight.
struct Sums {
  std::array<std::vector<float>, kWarpSize> of_lane;
  int in_flight = 0;
};

struct WarpProducts {
  std::vector<Product> open;                // issued and not yet committed
  std::deque<std::vector<Product>> groups;  // committed, oldest first
  std::map<const float*, Sums> sums;        // by the first lane's
  bool fenced = false;                      // since the last commit
};
thread_local std::array<WarpProducts, kMaxWarps> products;

thread_local std::array<int, kMaxWarps> registers;  // of each thread of a warp

int free_registers(int quarter) {
  int taken = 0;
  for (int warp = quarter; warp < kMaxWarps; warp += kQuarters) taken += registers[static_cast<size_t>(warp)];
  return kQuarterRegisters - taken;
}

bool is_poison(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits == 0xffffffffu;
}

struct ProductIn {
  float* d;
  const uint32_t* a;
  int warp, columns;
  bool accumulates;
  uint64_t a_descriptor, b_descriptor;
};

void issue(const void* const* ins, void* const*) {
  const ProductIn& first = *static_cast<const ProductIn*>(ins[0]);
  Product product{{}, first.warp, first.columns, first.accumulates, first.a_descriptor, first.b_descriptor};
  WarpProducts& warp = products[static_cast<size_t>(first.warp)];
  const auto [sums, added] = warp.sums.try_emplace(first.d);
  const size_t count = static_cast<size_t>(first.columns) / 2;
  if ((added || first.a != nullptr) && !warp.fenced)
    fail("a wgmma without a wgmma.fence since its registers were accessed");
  if (!added && sums->second.of_lane[0].size() != count)
    fail("products of other shapes add to the same sums");
  ++sums->second.in_flight;
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const ProductIn& in = *static_cast<const ProductIn*>(ins[lane]);
    if (in.a_descriptor != first.a_descriptor || in.b_descriptor != first.b_descriptor)
      fail("the lanes of a warp pass different matrix descriptors");
    product.lanes[lane] = {in.d, in.a, {}};
    if (in.a != nullptr) std::copy_n(in.a, 4, product.lanes[lane].a_then);
    if (!added) continue;
    sums->second.of_lane[static_cast<size_t>(lane)].assign(in.d, in.d + count);
    std::memset(in.d, 0xff, count * sizeof(float));
  }
  warp.open.push_back(product);
}

// The product takes what shared memory has now.
void perform(WarpProducts& warp, const Product& product) {
  float a[kRowsPerWarp][kDepth];
  for (int lane = 0; lane < kWarpSize && product.a_in_registers(); ++lane) {
    const Product::Lane& of = product.lanes[lane];
    if (!std::equal(of.a_then, of.a_then + 4, of.a)) fail("registers change that a wgmma in flight reads");
    for (int i = 0; i < 8; ++i)
      a[lane / 4 + 8 * (i / 2 % 2)][lane % 4 * 2 + i % 2 + 8 * (i / 4)] =
          bf16_to_f32(static_cast<uint16_t>(of.a_then[i / 2] >> 16 * (i % 2)));
  }
  for (int row = 0; row < kRowsPerWarp && !product.a_in_registers(); ++row)
    load_row(product.a, product.warp % 4 * kRowsPerWarp + row, a[row]);
  const auto sums = warp.sums.find(product.lanes[0].d);
  for (int column = 0; column < product.columns; ++column) {
    float b[kDepth];
    load_row(product.b, column, b);
    for (int row = 0; row < kRowsPerWarp; ++row) {
      double sum = 0;
      for (int k = 0; k < kDepth; ++k) sum += double{a[row][k]} * b[k];
      float& d = sums->second.of_lane[static_cast<size_t>(row % 8 * 4 + column % 8 / 2)]
                                     [static_cast<size_t>(column / 8 * 4 + row / 8 * 2 + column % 2)];
      d = static_cast<float>(product.accumulates ? d + sum : sum);
    }
  }
  if (--sums->second.in_flight > 0) return;
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const std::vector<float>& values = sums->second.of_lane[static_cast<size_t>(lane)];
    float* const d = product.lanes[lane].d;
    if (!std::all_of(d, d + values.size(), is_poison)) fail("sums change that a wgmma in flight adds to");
    std::ranges::copy(values, d);
  }
  warp.sums.erase(sums);
}

void start_copy(void* shared, std::vector<unsigned char> data, uint64_t* barrier) {
  auto* const to = static_cast<unsigned char*>(shared);
  if (!check_shared(to, data.size(), 16)) return;
  const Range range = {shared_address(to), shared_address(to) + static_cast<uint32_t>(data.size())};
  for (const WarpProducts& warp : products) {
    const auto reads = [&](const Product& product) { return product.reads(range); };
    const auto any_reads = [&](const std::vector<Product>& group) {
      return std::ranges::any_of(group, reads);
    };
    if (any_reads(warp.open) || std::ranges::any_of(warp.groups, any_reads))
      fail("a copy overwrites what a wgmma in flight reads");
  }
  std::memset(to, 0xff, data.size());
  copies[barrier].push_back({to, std::move(data)});
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
  let_others_run();  // so that whoever waits for the barrier uses at once what this thread gave up too early
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
  if (map.box_rows > kMaxBoxRows) fail("a box of more than 256 rows");
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

void wgmma_columns(float* d, int columns, bool accumulates, const uint32_t* a, uint64_t a_descriptor,
                   uint64_t b_descriptor) {
  const ProductIn in = {d, a, running_warp(), columns, accumulates, a_descriptor, b_descriptor};
  sync_warp("wgmma", &in, nullptr, issue);
}

void wgmma_fence() {
  const int warp = running_warp();
  sync_warp("wgmma.fence", &warp, nullptr, [](const void* const* ins, void* const*) {
    products[static_cast<size_t>(*static_cast<const int*>(ins[0]))].fenced = true;
  });
}

void wgmma_commit() {
  const int warp = running_warp();
  sync_warp("wgmma.commit", &warp, nullptr, [](const void* const* ins, void* const*) {
    WarpProducts& of = products[static_cast<size_t>(*static_cast<const int*>(ins[0]))];
    of.groups.push_back(std::exchange(of.open, {}));
    of.fenced = false;
  });
}

void wait_for_products(int groups_left) {
  struct In {
    int warp, groups_left;
  } in{running_warp(), groups_left};
  sync_warp("wgmma.wait", &in, nullptr, [](const void* const* ins, void* const*) {
    const In& first = *static_cast<const In*>(ins[0]);
    WarpProducts& of = products[static_cast<size_t>(first.warp)];
    for (; static_cast<int>(of.groups.size()) > first.groups_left; of.groups.pop_front())
      for (const Product& product : of.groups.front()) perform(of, product);
  });
}

void set_registers(int count, bool takes) {
  struct In {
    int warp, count;
  } in{running_warp(), count};
  const int had = registers[static_cast<size_t>(in.warp)];
  if (count % 8 != 0 || count < 24 || count > 256) return fail("setmaxnreg with an invalid number");
  if (takes ? count < had : count > had) return fail("setmaxnreg takes fewer registers, or gives back more");
  while (free_registers(in.warp % kQuarters) < count - had) yield_fiber();
  sync_warp("setmaxnreg", &in, nullptr, [](const void* const* ins, void* const*) {
    const In& first = *static_cast<const In*>(ins[0]);
    registers[static_cast<size_t>(first.warp)] = first.count;
    progress();
  });
}

void begin_hopper_block() {
  copies.clear();
  products = {};
  const int warps = static_cast<int>(position.block_size.x) / kWarpSize;
  const int at_start = kQuarterRegisters / ((warps + kQuarters - 1) / kQuarters);
  registers = {};
  std::fill_n(registers.begin(), warps, std::min(at_start, kMaxThreadRegisters) / 8 * 8);
}

void end_hopper_block() {
  for (const auto& [barrier, waiting] : copies)
    if (!waiting.empty()) fail("a block ends before its bulk copies have arrived");
  for (const WarpProducts& warp : products)
    if (!warp.open.empty() || !warp.groups.empty()) fail("a block ends with a wgmma in flight");
}

}  // namespace apar::cuda::emulate
