// Matrix products with wgmma. They have their own file, so that the tests of the other kernels stay valid on
// a device where these fail.
#include <array>
#include <cstdio>

#include "test/cuda/gated_products.h"

using namespace apar;
using namespace apar::cuda;
using namespace apar::test;

namespace {

bool device_has_wgmma() {
  if (open_test_device()->info().capability == 90) return true;
  MESSAGE("left out: the device has no wgmma");
  return false;
}

ProductCase wgmma_case(WeightFormat format, int32_t rows, int32_t in, std::vector<int32_t> outs,
                       int32_t multiprocessors = 6) {
  return {format, rows, in, std::move(outs), multiprocessors, GemmBackend::wgmma};
}

}  // namespace

TEST_CASE("every tile size of rows and every format, with unaligned shapes") {
  if (!device_has_wgmma()) return;
  std::mt19937 random(21);
  for (const WeightFormat format : kPackedFormats) {
    check_products(random, wgmma_case(format, 1, 8, {1}));
    check_products(random, wgmma_case(format, 17, 200, {65, 3}));
    check_products(random, wgmma_case(format, 33, 136, {20, 70, 1}));
    check_products(random, wgmma_case(format, 130, 72, {130}));
  }
}

TEST_CASE("reused stages; split sums, by several blocks and by one block") {
  if (!device_has_wgmma()) return;
  std::mt19937 random(22);
  for (const WeightFormat format : kPackedFormats) {
    check_products(random, wgmma_case(format, 3, 1032, {70, 60}));
    check_products(random, wgmma_case(format, 40, 1400, {70}, 1));
    check_products(random, wgmma_case(format, 129, 648, {100, 30}, 2));
  }
}

TEST_CASE("a gated pair has the bits of two products and SwiGLU") {
  if (!device_has_wgmma()) return;
  std::mt19937 random(24);
  check_gated_shapes(random, GemmBackend::wgmma);
}

namespace {

using Products = std::vector<std::vector<float>>;

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

// Layers of five output tiles, so that one pair has only one tile, and their products.
struct Sample {
  ProductCase shape;
  std::vector<Layer> layers;
  std::vector<float> x;

  Sample(std::mt19937& random, WeightFormat format, int32_t rows, int32_t in, int32_t multiprocessors)
      : shape(wgmma_case(format, rows, in, {70, 65, 10}, multiprocessors)),
        layers(random_layers(random, format, shape.outs, in)),
        x(random_floats(random, static_cast<size_t>(rows) * in)) {}

  Products products(int32_t rows, const GemmPlan* plan = nullptr, ProductTrace* trace = nullptr) const {
    const auto device = open_test_device();
    return packed_products(*device, shape, layers, std::span(x).first(static_cast<size_t>(rows) * shape.in),
                           trace, plan);
  }
};

}  // namespace

namespace {

// Every second of the other tile sizes for one number of splits, and the rest for the next, to save time. The
// number of blocks varies, too; nearly always it is below the number of items.
void check_every_plan(const Sample& sample, int32_t rows, int32_t splits,
                      std::span<const int32_t> tile_sizes) {
  Products want;
  int32_t which = splits, blocks = splits;
  for (const int32_t tile_rows : tile_sizes) {
    if (!want.empty() && ++which % 2 == 0) continue;
    for (const bool sequential : {false, true}) {
      if (sequential && (splits == 1 || tile_rows > kMaxSequentialWgmmaRows)) continue;
      CAPTURE(splits);
      CAPTURE(tile_rows);
      CAPTURE(sequential);
      blocks = blocks % 6 + 1;
      const GemmPlan plan = {GemmKernel::wgmma, tile_rows, splits, sequential, blocks};
      const Products got = in_either_order([&] { return sample.products(rows, &plan); });
      if (want.empty()) want = got;
      for (size_t i = 0; i < want.size(); ++i) CHECK(same_bits(want[i], got[i]));
    }
  }
#ifndef APAR_TEST_ON_DEVICE
  const GemmPlan mma = {GemmKernel::mma, 64, splits, false, 0};
  CHECK(want == sample.products(rows, &mma));
#endif
}

}  // namespace

TEST_CASE("wgmma: a sum has the same bits in every tile size, however its splits and items are divided") {
  if (!device_has_wgmma()) return;
  std::mt19937 random(24);
  constexpr int32_t kRows = 260;
  const Sample sample(random, WeightFormat::bf16, kRows, 520, 6);
  for (int32_t splits = 1; splits <= kMaxSplits; ++splits)
    check_every_plan(sample, kRows, splits, std::array{32, 64, 128, 192, 256});
}

TEST_CASE("wgmma: the same for weights that are converted in registers") {
  if (!device_has_wgmma()) return;
  std::mt19937 random(26);
  constexpr int32_t kRows = 135;
  for (const WeightFormat format : kPackedFormats) {
    CAPTURE(std::string(to_string(format)));
    const Sample sample(random, format, kRows, 328, 6);
    for (const int32_t splits : {1, 2, 5}) check_every_plan(sample, kRows, splits, std::array{32, 64, 128});
  }
}

TEST_CASE("wgmma: a row has the same bits in every number of rows") {
  if (!device_has_wgmma()) return;
  std::mt19937 random(25);
  constexpr int32_t kMostRows = 600;
  // The plans differ with the number of multiprocessors: one to eight splits, in parallel or one after the
  // other.
  for (const int32_t multiprocessors : {1, 6, 24}) {
    CAPTURE(multiprocessors);
    const int32_t in = multiprocessors < 24 ? 520 : 2056;  // a split has at least four tiles of inputs
    const Sample sample(random, WeightFormat::bf16, kMostRows, in, multiprocessors);
    ProductTrace trace;
    const Products want = sample.products(kMostRows, nullptr, &trace);
    CHECK(trace.plan.splits == (multiprocessors == 1 ? 1 : multiprocessors == 6 ? 2 : 8));
    for (const int32_t rows : {1, 2, 9, 33, 64, 65, 127, 129, 192, 193, 256, 257, 385, 513}) {
      CAPTURE(rows);
      const Products got = sample.products(rows);
      for (size_t i = 0; i < want.size(); ++i)
        CHECK(same_bits(std::span(want[i]).first(static_cast<size_t>(rows) * sample.layers[i].outs), got[i]));
    }
  }
}

// It is not documented whether wgmma adds products in the same order as mma.sync. native/gpu/verify reads the
// line.
TEST_CASE("wgmma has the same bits as mma.sync") {
  if (!device_has_wgmma()) return;
  std::mt19937 random(23);
  bool same = true;
  for (const WeightFormat format : kPackedFormats) {
    const auto device = open_test_device();
    ProductCase shape = wgmma_case(format, 37, 520, {70, 40});
    const std::vector<Layer> layers = random_layers(random, format, shape.outs, shape.in);
    const std::vector<float> x = random_floats(random, static_cast<size_t>(shape.rows) * shape.in);
    const auto wgmma = packed_products(*device, shape, layers, x);
    shape.backend = GemmBackend::mma;
    same = same && wgmma == packed_products(*device, shape, layers, x);
  }
  std::printf("wgmma has mma.sync's bits: %s\n", same ? "yes" : "no");
#ifndef APAR_TEST_ON_DEVICE
  CHECK(same);
#endif
}
