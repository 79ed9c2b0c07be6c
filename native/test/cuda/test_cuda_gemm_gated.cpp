// Products of gated pairs: the bits of the two products and the SwiGLU kernel after them.
// test_cuda_gemm_wgmma.cpp tests those of wgmma.
#include "test/cuda/gated_products.h"

using namespace apar;
using namespace apar::cuda;
using namespace apar::test;

TEST_CASE("a gated pair has the bits of two products and SwiGLU") {
  std::mt19937 random(41);
  check_gated_shapes(random, GemmBackend::mma);
}

TEST_CASE("the two layers of a pair are unpacked for cuBLASLt") {
  std::mt19937 random(43);
  for (const auto& [outs, in] : {std::pair{1, 8}, {64, 64}, {70, 200}}) {
    const auto device = open_test_device();
    const ProductCase shape = {WeightFormat::bf16, 1, in, {outs}};
    const std::vector<Layer> layers = random_layers(random, shape.format, {outs, outs}, in);
    const DeviceArray<std::byte> packed(*device, packed_pair(layers, shape));
    for (const PairHalf half : {PairHalf::gate, PairHalf::up}) {
      const DeviceArray<uint16_t> rows(*device, static_cast<size_t>(outs) * in);
      unpack_bf16(device->stream(), packed.data(), half, outs, in, rows.data());
      CHECK(rows.get() == to_bf16(layers[half == PairHalf::gate ? 0 : 1].kept));
    }
  }
}

TEST_CASE("a pair keeps the row scales of layers that were decoded from fp8") {
  std::mt19937 random(44);
  constexpr int32_t kOuts = 20, kIn = 64;
  std::vector<float> weights[2], scales[2];
  for (int32_t i = 0; i < 2; ++i) {
    scales[i] = random_floats(random, kOuts);
    for (float& scale : scales[i]) scale = std::abs(scale) + 1;
    for (int32_t at = 0; at < kOuts * kIn; ++at)
      weights[i].push_back(scales[i][at / kIn] * e4m3_to_f32(static_cast<uint8_t>(random() % 0x40)));
  }
  const Matrix gate = {weights[0].data(), DType::f32, kOuts, kIn, scales[0].data()},
               up = {weights[1].data(), DType::f32, kOuts, kIn, scales[1].data()};
  std::vector<std::byte> packed(tile_row_bytes(kIn, WeightFormat::fp8));
  pack_pair_tiles(gate, up, WeightFormat::fp8, 0, packed.data());
  float kept[kTileOuts];
  std::memcpy(kept, packed.data() + tile_bytes(WeightFormat::fp8), sizeof(kept));
  for (int32_t row = 0; row < kTileOuts; ++row) {
    const int32_t out = row / 16 * 8 + row % 8;
    CHECK(kept[row] == (out < kOuts ? scales[row / 8 % 2][out] : 0.0f));
  }
}
