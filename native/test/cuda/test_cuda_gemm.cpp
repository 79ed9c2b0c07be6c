// Matrix products against double precision on the weights as they are kept, ragged shapes, every number of
// rows' tile.
#include <doctest/doctest.h>

#include "ops/cuda/gemm.h"
#include "ops/cuda/weight_tiles.h"
#include "test/cuda/device_array.h"
#include "test/cuda/either_order.h"
#include "test/cuda/open_device.h"

using namespace apar;
using namespace apar::cuda;
using namespace apar::test;

namespace {

struct Layer {
  int32_t outs = 0;
  std::vector<float> kept;  // [outs, in], the values that the packed weights stand for
  std::vector<std::byte> packed;
};

// The values are drawn so that packing keeps them exactly: small integers times one power of two per 32
// inputs, whose largest is the largest integer of the format.
Layer random_layer(std::mt19937& random, WeightFormat format, int32_t outs, int32_t in) {
  Layer layer = {outs, {}, std::vector<std::byte>(tiled_bytes(outs, in, format))};
  const int32_t largest = format == WeightFormat::int4 ? 7 : 127;
  for (int32_t out = 0; out < outs; ++out) {
    float scale = 1;
    for (int32_t k = 0; k < in; ++k) {
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

struct Case {
  WeightFormat format = WeightFormat::bf16;
  int32_t rows = 1;
  int32_t in = 8;
  std::vector<int32_t> outs;
  int32_t multiprocessors = 6;
};

// The products of all rows, layer after layer, from a call with the plan for `rows`.
std::vector<std::vector<float>> multiply(Device& device, const Case& shape, const std::vector<Layer>& layers,
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
  const GemmPlan plan = plan_gemm(rows, call.tiles, tiles_of(shape.in, kTileInputs), shape.multiprocessors);
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

void check(std::mt19937& random, const Case& shape) {
  CAPTURE(std::string(to_string(shape.format)));
  CAPTURE(shape.rows);
  CAPTURE(shape.in);
  CAPTURE(shape.outs);
  const auto device = open_test_device();
  std::vector<Layer> layers;
  for (const int32_t outs : shape.outs) layers.push_back(random_layer(random, shape.format, outs, shape.in));
  std::vector<float> x = random_floats(random, static_cast<size_t>(shape.rows) * shape.in);
  for (float& value : x) value = bf16_to_f32(f32_to_bf16(value));

  const auto got = in_either_order([&] { return multiply(*device, shape, layers, x); });
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
  const auto alone = multiply(*device, shape, layers, std::span(x).subspan(row * shape.in, shape.in));
  for (size_t i = 0; i < layers.size(); ++i)
    CHECK(std::memcmp(alone[i].data(), got[i].data() + row * layers[i].outs,
                      alone[i].size() * sizeof(float)) == 0);
}

}  // namespace

TEST_CASE("packed products: every tile of rows and every format") {
  std::mt19937 random(11);
  for (const WeightFormat format : {WeightFormat::bf16, WeightFormat::int8, WeightFormat::int4}) {
    check(random, {format, 1, 8, {1}});
    check(random, {format, 2, 104, {50, 18}});
    check(random, {format, 3, 320, {129}});
    check(random, {format, 4, 712, {64}, 1});  // one part: weights are fetched again and again
    check(random, {format, 7, 72, {65, 3}});
    check(random, {format, 16, 64, {64}});
    check(random, {format, 23, 200, {20, 70, 1}});
    check(random, {format, 61, 136, {66}});
    check(random, {format, 130, 136, {40}});
  }
}

TEST_CASE("packed products: sums in parts, by several blocks and by one in turn") {
  std::mt19937 random(12);
  for (const WeightFormat format : {WeightFormat::bf16, WeightFormat::int8, WeightFormat::int4}) {
    check(random, {format, 4, 1032, {7, 66}});
    check(random, {format, 5, 1032, {70}});
    check(random, {format, 70, 840, {30, 9}, 16});
    check(random, {format, 150, 648, {100}, 3});  // few multiprocessors: in turn
  }
}

TEST_CASE("plain products of any shape, f32 and bf16") {
  std::mt19937 random(13);
  const auto device = open_test_device();
  for (const int32_t in : {1, 31, 45, 130}) {
    for (const int32_t rows : {1, 4, 6}) {
      const int32_t outs = static_cast<int32_t>(random() % 40) + 1;
      const std::vector<float> w = random_floats(random, static_cast<size_t>(outs) * in);
      const std::vector<float> x = random_floats(random, static_cast<size_t>(rows) * in);
      const DeviceArray<float> x_device(*device, x), w_f32(*device, w);
      const DeviceArray<uint16_t> w_bf16(*device, to_bf16(w));
      for (const DType dtype : {DType::f32, DType::bf16}) {
        const DeviceArray<float> y(*device, static_cast<size_t>(rows) * outs);
        GemmCall call;
        call.num_projections = 1;
        call.rows = rows;
        call.in = in;
        call.x = x_device.data();
        call.projections[0] = {dtype == DType::f32 ? static_cast<const void*>(w_f32.data()) : w_bf16.data(),
                               y.data(), outs, 0};
        plain_gemm(device->stream(), call, dtype);
        const std::vector<float> got = y.get();
        for (int32_t i = 0; i < rows * outs; ++i) {
          double want = 0;
          for (int32_t k = 0; k < in; ++k) {
            const float weight = w[i % outs * in + k];
            want += double{x[i / outs * in + k]} *
                    (dtype == DType::f32 ? weight : bf16_to_f32(f32_to_bf16(weight)));
          }
          REQUIRE(got[i] == doctest::Approx(want).epsilon(1e-5).scale(10));
        }
      }
    }
  }
}

TEST_CASE("quantising loses at most half a step, in int4 a whole one where the range ends at 7") {
  std::mt19937 random(14);
  const std::vector<float> weights = random_floats(random, 64 * 64);
  const Matrix host = {weights.data(), DType::f32, 64, 64};
  for (const WeightFormat format : {WeightFormat::int8, WeightFormat::int4}) {
    const auto device = open_test_device();
    Layer layer = {64, {}, std::vector<std::byte>(tiled_bytes(64, 64, format))};
    pack_tiles(host, format, 0, layer.packed.data());
    std::vector<float> identity(64 * 64, 0.0f);
    for (int32_t i = 0; i < 64; ++i) identity[i * 65] = 1;
    const auto got = multiply(*device, {format, 64, 64, {64}}, {layer}, identity)[0];  // [input][output]
    const float step = format == WeightFormat::int8 ? 0.5f / 127 : 1.0f / 8;
    for (int32_t out = 0; out < 64; ++out)
      for (int32_t k = 0; k < 64; ++k)
        REQUIRE(std::abs(got[k * 64 + out] - weights[out * 64 + k]) <= step * 1.001f);
  }
}
