#pragma once

// Products of random gated pairs, compared with the two products and the SwiGLU kernel after them.

#include "ops/cuda/elementwise/elementwise.h"
#include "test/cuda/packed_products.h"

namespace apar::test {

struct Gated {
  std::vector<float> f32;
  std::vector<uint16_t> bf16;
  bool operator==(const Gated&) const = default;
};

inline std::vector<std::byte> packed_pair(const std::vector<Layer>& layers, const ProductCase& shape) {
  const int32_t outs = layers[0].outs, tiles = pair_tiles(outs);
  std::vector<std::byte> packed(2 * tiled_bytes(outs, shape.in, shape.format));
  const size_t row_bytes = packed.size() / tiles;
  const Matrix gate = layers[0].matrix(), up = layers[1].matrix();
  for (int32_t tile = 0; tile < tiles; ++tile)
    pack_pair_tiles(gate, up, shape.format, tile, packed.data() + tile * row_bytes);
  return packed;
}

inline Gated separate(cuda::Device& device, const ProductCase& shape, const std::vector<Layer>& layers,
                      std::span<const float> x) {
  const auto sums = packed_products(device, shape, layers, x);
  const DeviceArray<float> gate(device, sums[0]), up(device, sums[1]);
  const DeviceArray<uint16_t> bf16(device, sums[0].size());
  swiglu(device.stream(), static_cast<int64_t>(sums[0].size()), gate.data(), up.data(), bf16.data());
  return {gate.get(), bf16.get()};
}

inline Gated fused(cuda::Device& device, const ProductCase& shape, const std::vector<Layer>& layers,
                   std::span<const float> x, bool f32_too) {
  const auto rows = static_cast<int32_t>(x.size()) / shape.in;
  const int32_t outs = layers[0].outs;
  const DeviceArray<std::byte> weights(device, packed_pair(layers, shape));
  const DeviceArray<uint16_t> x_bf16(device, to_bf16({x.begin(), x.end()}));
  const DeviceArray<uint16_t> bf16(device, static_cast<size_t>(rows) * outs);
  const DeviceArray<float> f32(device, bf16.get().size());
  GemmCall call;
  call.projections[call.num_projections++] = {weights.data(), f32_too ? f32.data() : nullptr, outs, 0,
                                              bias_on(device, layers[0])};
  call.tiles = pair_tiles(outs);
  call.rows = rows;
  call.in = shape.in;
  call.x_bf16 = x_bf16.data();
  call.gated = {bf16.data(), bias_on(device, layers[1])};
  const GemmPlan plan = plan_gemm(rows, call.tiles, tiles_of(shape.in, kTileInputs), shape.format,
                                  {shape.multiprocessors, device.info().capability, shape.backend});
  multiply_packed(device, call, shape.format, plan);
  return {f32.get(), bf16.get()};
}

inline void check_gated(std::mt19937& random, const ProductCase& shape) {
  CAPTURE(std::string(to_string(shape.format)));
  CAPTURE(shape.rows);
  CAPTURE(shape.in);
  CAPTURE(shape.outs);
  const auto device = open_test_device();
  std::vector<Layer> layers = random_layers(random, shape.format, {shape.outs[0], shape.outs[0]}, shape.in);
  const std::vector<float> x = random_inputs(random, shape.rows, shape.in);
  const Gated want = separate(*device, shape, layers, x);
  CHECK(in_either_order([&] { return fused(*device, shape, layers, x, true); }) == want);
  CHECK(fused(*device, shape, layers, x, false).bf16 == want.bf16);
  const int32_t row = static_cast<int32_t>(random() % shape.rows), outs = shape.outs[0];
  const Gated alone = fused(*device, shape, layers, std::span(x).subspan(row * shape.in, shape.in), true);
  CHECK(std::equal(alone.bf16.begin(), alone.bf16.end(), want.bf16.begin() + int64_t{row} * outs));
}

inline void check_gated_shapes(std::mt19937& random, GemmBackend backend) {
  for (const WeightFormat format : kPackedFormats) {
    check_gated(random, {format, 1, 8, {1}, 6, backend});
    check_gated(random, {format, 3, 320, {129}, 6, backend});
    check_gated(random, {format, 4, 1032, {66}, 6, backend});  // split sums
    check_gated(random, {format, 7, 72, {40}, 6, backend});
    check_gated(random, {format, 16, 64, {64}, 6, backend});
    check_gated(random, {format, 23, 1032, {37}, 6, backend});
    check_gated(random, {format, 61, 136, {68}, 6, backend});
    check_gated(random, {format, 130, 136, {40}, 6, backend});
    check_gated(random, {format, 150, 648, {100}, 3, backend});  // one block computes all splits
  }
}

}  // namespace apar::test
