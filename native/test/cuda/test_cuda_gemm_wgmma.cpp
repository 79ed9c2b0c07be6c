// Matrix products with wgmma. They have their own file, so that the tests of the other kernels stay valid on
// a device where these fail.
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
