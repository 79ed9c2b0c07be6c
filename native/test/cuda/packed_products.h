#pragma once

// Products of random packed layers, for the tests of every kernel.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "ops/cuda/gemm.h"
#include "ops/cuda/weight_tiles.h"
#include "ops/float8.h"
#include "test/cuda/device_array.h"
#include "test/cuda/either_order.h"
#include "test/cuda/open_device.h"

namespace apar::test {

using namespace cuda;

constexpr WeightFormat kPackedFormats[] = {WeightFormat::bf16, WeightFormat::f16, WeightFormat::fp8,
                                           WeightFormat::int8, WeightFormat::int4};

struct Layer {
  int32_t outs = 0;
  std::vector<float> kept;  // [outs, in], the values that the packed weights stand for
  std::vector<std::byte> packed;
};

// The values are drawn so that packing keeps them exactly: small integers times one power of two per 32
// inputs, whose largest is the largest integer of the format; fp8: any e4m3 times one power of two, the
// largest among them (f16: 11 bits, three more than bf16 has).
inline Layer random_layer(std::mt19937& random, WeightFormat format, int32_t outs, int32_t in) {
  Layer layer = {outs, {}, std::vector<std::byte>(tiled_bytes(outs, in, format))};
  const int32_t largest = format == WeightFormat::int4 ? 7 : format == WeightFormat::f16 ? 2047 : 127;
  for (int32_t out = 0; out < outs; ++out) {
    float scale = std::ldexp(1.0f, -8 - static_cast<int>(random() % 3));
    for (int32_t k = 0; k < in; ++k) {
      if (format == WeightFormat::fp8) {
        const auto bits = static_cast<uint8_t>(k == 0 ? 0x7e : random() % 0x7f | (random() & 0x80));
        layer.kept.push_back(e4m3_to_f32(bits) * scale);
        continue;
      }
      if (k % 32 == 0) scale = std::ldexp(1.0f, -6 - static_cast<int>(random() % 3));
      const auto integer = static_cast<int32_t>(random() % (2 * largest + 1)) - largest;
      layer.kept.push_back(static_cast<float>(k % 32 > 0 ? integer : largest == 7 ? -8 : largest) * scale);
    }
  }
  const Matrix host = {layer.kept.data(), DType::f32, outs, in};
  const size_t row_bytes = layer.packed.size() / tiles_of(outs, kTileOuts);
  for (int32_t tile = 0; tile < tiles_of(outs, kTileOuts); ++tile)
    pack_tiles(host, format, tile, layer.packed.data() + tile * row_bytes);
  return layer;
}

struct ProductCase {
  WeightFormat format = WeightFormat::bf16;
  int32_t rows = 1;
  int32_t in = 8;
  std::vector<int32_t> outs;
  int32_t multiprocessors = 6;
  cuda::GemmChoice choice = cuda::GemmChoice::mma;
};

// The products of all rows, layer after layer, from a call with the plan for `rows`.
inline std::vector<std::vector<float>> packed_products(cuda::Device& device, const ProductCase& shape,
                                                       const std::vector<Layer>& layers,
                                                       std::span<const float> x) {
  const auto rows = static_cast<int32_t>(x.size()) / shape.in;
  GemmCall call;
  std::vector<DeviceArray<std::byte>> weights;
  std::vector<DeviceArray<float>> outs;
  for (const Layer& layer : layers) {
    weights.emplace_back(device, layer.packed);
    outs.emplace_back(device, static_cast<size_t>(rows) * layer.outs);
    call.projections[call.num_projections++] = {weights.back().data(), outs.back().data(), layer.outs,
                                                call.tiles};
    call.tiles += tiles_of(layer.outs, kTileOuts);
  }
  const std::vector<float> x_copy(x.begin(), x.end());
  const DeviceArray<float> x_f32(device, x_copy);
  const DeviceArray<uint16_t> x_bf16(device, to_bf16(x_copy));
  call.rows = rows;
  call.in = shape.in;
  call.x = x_f32.data();
  call.x_bf16 = x_bf16.data();
  const GemmPlan plan = plan_gemm(rows, call.tiles, tiles_of(shape.in, kTileInputs), shape.format,
                                  {shape.multiprocessors, device.info().capability, shape.choice});
  const DeviceArray<float> partials(device, std::max<int64_t>(1, partial_floats(plan, rows, call.tiles)));
  const std::vector<int32_t> zeros(static_cast<size_t>(call.tiles) * tiles_of(rows, plan.tile_rows), 0);
  const DeviceArray<int32_t> arrived(device, zeros);
  call.partials = partials.data();
  call.arrived = arrived.data();
  packed_gemm(device.stream(), call, shape.format, plan);
  std::vector<std::vector<float>> results;
  for (const auto& out : outs) results.push_back(out.get());
  CHECK(arrived.get() == zeros);  // ready for the next call
  return results;
}

inline void check_products(std::mt19937& random, const ProductCase& shape) {
  CAPTURE(std::string(to_string(shape.format)));
  CAPTURE(shape.rows);
  CAPTURE(shape.in);
  CAPTURE(shape.outs);
  const auto device = cuda::open_test_device();
  std::vector<Layer> layers;
  for (const int32_t outs : shape.outs) layers.push_back(random_layer(random, shape.format, outs, shape.in));
  std::vector<float> x = random_floats(random, static_cast<size_t>(shape.rows) * shape.in);
  for (float& value : x) value = bf16_to_f32(f32_to_bf16(value));

  const auto got = in_either_order([&] { return packed_products(*device, shape, layers, x); });
  for (size_t i = 0; i < layers.size(); ++i) {
    const Layer& layer = layers[i];
    double worst = 0;
    for (int32_t row = 0; row < shape.rows; ++row) {
      for (int32_t out = 0; out < layer.outs; ++out) {
        double want = 0, size = 0;
        for (int32_t k = 0; k < shape.in; ++k) {
          const double product = double{x[row * shape.in + k]} * layer.kept[out * shape.in + k];
          want += product;
          size += std::abs(product);
        }
        const double difference = std::abs(got[i][row * layer.outs + out] - want);
        REQUIRE(std::isfinite(difference));
        worst = std::max(worst, difference / size);
      }
    }
    CHECK(worst < 1e-6);
  }
  // A row alone has the bits that it has among others, though another kernel computes it.
  const int32_t row = static_cast<int32_t>(random() % shape.rows);
  const auto alone = packed_products(*device, shape, layers, std::span(x).subspan(row * shape.in, shape.in));
  for (size_t i = 0; i < layers.size(); ++i)
    CHECK(std::memcmp(alone[i].data(), got[i].data() + row * layers[i].outs,
                      alone[i].size() * sizeof(float)) == 0);
}

}  // namespace apar::test
