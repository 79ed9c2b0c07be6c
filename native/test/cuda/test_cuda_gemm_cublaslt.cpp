// Matrix products with cuBLASLt: a fake library on the host, the real one on a device.
#include <cstdlib>

#include "common/error.h"
#include "ops/cuda/cuda_ops.h"
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
    unpack_bf16(device->stream(), packed.data(), PairHalf::none, outs, in, rows.data());
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

TEST_CASE("a gated pair has the bits of two layers and SwiGLU") {
#ifndef APAR_TEST_ON_DEVICE
  set_library_path(APAR_FAKE_CUBLASLT);
#endif
  if (!CublasLt::open(*open_test_device(), GemmBackend::automatic)) {
    MESSAGE("left out: there is no cuBLASLt");
    return;
  }
  constexpr int32_t kRows = kMinCublasLtRows, kIn = 16, kInner = 72, kOuts = 8;
  std::mt19937 random(33);
  const auto gate = random_floats(random, kInner * kIn), up = random_floats(random, kInner * kIn),
             down = random_floats(random, kOuts * kInner), bias = random_floats(random, kInner),
             table = random_floats(random, 32 * kIn);
  std::vector<int32_t> tokens;
  for (int32_t row = 0; row < kRows; ++row) tokens.push_back(static_cast<int32_t>(random() % 32));
  std::vector<std::vector<float>> all;
  ::setenv("APAR_CUDA_GEMM", "cublaslt", 1);
  for (const char* const fusion : {"on", "off"}) {
    ::setenv("APAR_CUDA_FUSION", fusion, 1);
    CudaOps ops({.num_layers = 1,
                 .num_heads = 1,
                 .num_kv_heads = 1,
                 .head_dim = 8,
                 .num_blocks = 1,
                 .max_rows = kRows,
                 .max_context = kBlockTokens,
                 .max_inputs = kInner,
                 .draft_rows = kRows,
                 .vocab_size = kOuts},
                open_test_device());
    const auto place = [&](const std::vector<float>& w, int64_t rows) {
      return Matrix{w.data(), DType::f32, rows, static_cast<int64_t>(w.size()) / rows};
    };
    const GatedLinears pair = ops.place_gated(place(gate, kInner), place(up, kInner), WeightFormat::bf16, {});
    const Linear last = ops.place_linear(place(down, kOuts), WeightFormat::bf16, {});
    const auto* const up_bias = static_cast<const float*>(ops.place(place(bias, 1), Axis::whole).data);
    float* const x = ops.allocate(size_t{kRows} * kIn, Axis::whole);
    float* const gated = ops.allocate(size_t{kRows} * kInner, Axis::whole);
    float* const scratch = ops.allocate(size_t{kRows} * kInner, Axis::whole);
    ops.pick_embeddings(ops.place(place(table, 32), Axis::whole), tokens, x);
    ops.gated_matmul(x, kRows, {pair.gate, gated}, {pair.up, scratch, up_bias});
    ops.logits(gated, kRows, last, all.emplace_back(size_t{kRows} * kOuts));
  }
  ::unsetenv("APAR_CUDA_FUSION");
  ::unsetenv("APAR_CUDA_GEMM");
  CHECK(all[0] == all[1]);
  for (int32_t at = 0; at < kRows * kOuts; ++at) {
    const float* const token = table.data() + tokens[at / kOuts] * kIn;
    double want = 0;
    for (int32_t i = 0; i < kInner; ++i) {
      double g = 0, u = bias[i];
      for (int32_t k = 0; k < kIn; ++k) {
        g += double{token[k]} * gate[i * kIn + k];
        u += double{token[k]} * up[i * kIn + k];
      }
      want += g / (1 + std::exp(-g)) * u * down[at % kOuts * kInner + i];
    }
    REQUIRE(std::abs(all[0][at] - want) < 0.3);  // bf16
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
