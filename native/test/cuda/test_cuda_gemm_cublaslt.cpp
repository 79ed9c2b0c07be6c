// Matrix products with cuBLASLt: a fake library on the host, the real one on a device.
#include <cstdlib>

#include "common/error.h"
#include "ops/cuda/gemm/cublaslt.h"
#include "test/cuda/packed_products.h"

using namespace apar;
using namespace apar::cuda;
using namespace apar::test;

namespace {

void set_library_path(const char* path) {
  ::setenv("APAR_CUBLASLT_LIBRARY", path, 1);
}

}  // namespace

TEST_CASE("unpacked weights equal the weights before packing") {
  std::mt19937 random(31);
  for (const auto& [outs, in] : {std::pair{1, 8}, {64, 64}, {70, 200}}) {
    const auto device = open_test_device();
    const Layer layer = random_layer(random, WeightFormat::bf16, outs, in);
    const DeviceArray<std::byte> packed(*device, layer.packed);
    const DeviceArray<uint16_t> rows(*device, static_cast<size_t>(outs) * in);
    unpack_bf16(device->stream(), packed.data(), outs, in, rows.data());
    CHECK(rows.get() == to_bf16(layer.kept));
  }
}

TEST_CASE("products of several layers and several numbers of rows") {
#ifndef APAR_TEST_ON_DEVICE
  set_library_path(APAR_FAKE_CUBLASLT);
#endif
  const auto device = open_test_device();
  const auto lt = CublasLt::open(*device, GemmBackend::automatic);
  if (!lt) {
    MESSAGE("left out: there is no cuBLASLt");
    return;
  }
  std::mt19937 random(32);
  const std::vector<int32_t> outs = {72, 40};
  constexpr int32_t kIn = 136;
  std::vector<Layer> layers = random_layers(random, WeightFormat::bf16, outs, kIn);
  layers[0].bias = random_floats(random, outs[0], 4);
  layers[1].bias = {};
  std::vector<DeviceArray<std::byte>> packed;
  for (const Layer& layer : layers) {
    packed.emplace_back(*device, layer.packed);
    lt->reserve(int64_t{layer.outs} * kIn);
  }
  for (const int32_t rows : {16, 33, 16}) {
    const std::vector<float> x = random_inputs(random, rows, kIn);
    const DeviceArray<uint16_t> x_device(*device, to_bf16(x));
    std::vector<DeviceArray<float>> got;
    GemmCall call;
    for (size_t i = 0; i < layers.size(); ++i) {
      got.emplace_back(*device, static_cast<size_t>(rows) * outs[i]);
      call.projections[call.num_projections++] = {packed[i].data(), got[i].data(), outs[i], 0,
                                                  bias_on(*device, layers[i])};
    }
    call.rows = rows;
    call.in = kIn;
    call.x_bf16 = x_device.data();
    lt->multiply(call);
    for (size_t i = 0; i < layers.size(); ++i) {
      const std::vector<float> y = got[i].get();
      Mismatches wrong("cublaslt rows " + std::to_string(rows) + " outs " + std::to_string(outs[i]));
      for (int32_t at = 0; at < rows * outs[i]; ++at) {
        const ExactSum want =
            exact_output(layers[i], at % outs[i], std::span(x).subspan(at / outs[i] * kIn, kIn));
        wrong.compare(at / outs[i], at % outs[i], y[at], want.value, kProductTolerance * want.size);
      }
      CHECK(wrong.check());
    }
  }
}

TEST_CASE("without the library, automatic uses other kernels and cublaslt throws") {
  const char* const before = std::getenv("APAR_CUBLASLT_LIBRARY");
  const std::string kept = before == nullptr ? "" : before;
  set_library_path("/nowhere/libcublasLt.so");
  const auto device = open_test_device();
  CHECK(CublasLt::open(*device, GemmBackend::automatic) == nullptr);
  CHECK(CublasLt::open(*device, GemmBackend::mma) == nullptr);
  try {
    CublasLt::open(*device, GemmBackend::cublaslt);
    FAIL_CHECK("opened");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::unavailable);
  }
  if (kept.empty())
    ::unsetenv("APAR_CUBLASLT_LIBRARY");
  else
    set_library_path(kept.c_str());
}
