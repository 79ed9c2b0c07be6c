// Products by cuBLASLt: a fake one on the host, the real one on a device.
#include <cstdlib>

#include "common/error.h"
#include "ops/cuda/gemm/cublaslt.h"
#include "test/cuda/packed_products.h"

using namespace apar;
using namespace apar::cuda;
using namespace apar::test;

namespace {

void name_library(const char* path) {
  ::setenv("APAR_CUBLASLT_LIBRARY", path, 1);
}

}  // namespace

TEST_CASE("weights come out of their tiles as they were") {
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

TEST_CASE("products of several layers, of several numbers of rows") {
#ifndef APAR_TEST_ON_DEVICE
  name_library(APAR_FAKE_CUBLASLT);
#endif
  const auto device = open_test_device();
  const auto lt = CublasLt::open(*device, GemmChoice::automatic);
  if (!lt) {
    MESSAGE("left out: there is no cuBLASLt");
    return;
  }
  std::mt19937 random(32);
  const std::vector<int32_t> outs = {72, 40};
  constexpr int32_t kIn = 136;
  std::vector<Layer> layers;
  std::vector<DeviceArray<std::byte>> packed;
  for (const int32_t each : outs) {
    layers.push_back(random_layer(random, WeightFormat::bf16, each, kIn));
    packed.emplace_back(*device, layers.back().packed);
    lt->reserve(int64_t{each} * kIn);
  }
  for (const int32_t rows : {16, 33, 16}) {
    const std::vector<uint16_t> x = to_bf16(random_floats(random, static_cast<size_t>(rows) * kIn));
    std::vector<float> x_kept;
    for (const uint16_t bits : x) x_kept.push_back(bf16_to_f32(bits));
    const DeviceArray<uint16_t> x_device(*device, x);
    std::vector<DeviceArray<float>> got;
    GemmCall call;
    for (size_t i = 0; i < layers.size(); ++i) {
      got.emplace_back(*device, static_cast<size_t>(rows) * outs[i]);
      call.projections[call.num_projections++] = {packed[i].data(), got[i].data(), outs[i], 0};
    }
    call.rows = rows;
    call.in = kIn;
    call.x_bf16 = x_device.data();
    lt->multiply(call);
    for (size_t i = 0; i < layers.size(); ++i) {
      const std::vector<float> y = got[i].get();
      Mismatches wrong("cublaslt rows " + std::to_string(rows) + " outs " + std::to_string(outs[i]));
      for (int32_t at = 0; at < rows * outs[i]; ++at) {
        const ExactSum want = exact_sum(std::span(x_kept).subspan(at / outs[i] * kIn, kIn),
                                        std::span(layers[i].kept).subspan(at % outs[i] * kIn, kIn));
        wrong.compare(at / outs[i], at % outs[i], y[at], want.value, kProductTolerance * want.size);
      }
      CHECK(wrong.check());
    }
  }
}

TEST_CASE("where the library is missing, automatic does without and cublaslt says so") {
  const char* const before = std::getenv("APAR_CUBLASLT_LIBRARY");
  const std::string kept = before == nullptr ? "" : before;
  name_library("/nowhere/libcublasLt.so");
  const auto device = open_test_device();
  CHECK(CublasLt::open(*device, GemmChoice::automatic) == nullptr);
  CHECK(CublasLt::open(*device, GemmChoice::mma) == nullptr);
  try {
    CublasLt::open(*device, GemmChoice::cublaslt);
    FAIL_CHECK("opened");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::unavailable);
  }
  if (kept.empty())
    ::unsetenv("APAR_CUBLASLT_LIBRARY");
  else
    name_library(kept.c_str());
}
