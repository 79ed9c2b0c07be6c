// Matrix products against double precision on the packed weights, with unaligned shapes and every tile size
// of rows. test_cuda_gemm_wgmma.cpp tests those of wgmma.
#include "test/cuda/packed_products.h"

using namespace apar;
using namespace apar::cuda;
using namespace apar::test;

TEST_CASE("packed products: every tile size of rows and every format") {
  std::mt19937 random(11);
  for (const WeightFormat format : kPackedFormats) {
    check_products(random, {format, 1, 8, {1}});
    check_products(random, {format, 2, 104, {50, 18}});
    check_products(random, {format, 3, 320, {129}});
    check_products(random,
                   {format, 4, 712, {64}, 1});  // one split: every tile buffer is reused several times
    check_products(random, {format, 7, 72, {65, 3}});
    check_products(random, {format, 16, 64, {64}});
    check_products(random, {format, 23, 200, {20, 70, 1}});
    check_products(random, {format, 61, 136, {66}});
    check_products(random, {format, 130, 136, {40}});
  }
}

TEST_CASE("packed products: split sums, by several blocks and by one block") {
  std::mt19937 random(12);
  for (const WeightFormat format : kPackedFormats) {
    check_products(random, {format, 4, 1032, {7, 66}});
    check_products(random, {format, 5, 1032, {70}});
    check_products(random, {format, 70, 840, {30, 9}, 16});
    check_products(random,
                   {format, 150, 648, {100}, 3});  // few multiprocessors: one block computes all splits
  }
}

TEST_CASE("packed products: every partial sum is right") {
  std::mt19937 random(16);
  for (const WeightFormat format : kPackedFormats) {
    const auto device = open_test_device();
    const ProductCase shape = {format, 5, 1032, {70, 10}};
    const std::vector<Layer> layers = random_layers(random, format, shape.outs, shape.in);
    const std::vector<float> x = random_inputs(random, shape.rows, shape.in);
    ProductTrace trace;
    packed_products(*device, shape, layers, x, &trace);
    CHECK(trace.plan.splits > 1);
    CHECK(!trace.partials.empty());
    for (size_t i = 0; i < layers.size(); ++i) {
      Mismatches wrong(product_name(shape, layers[i], trace.plan));
      find_wrong_splits(wrong, shape, layers, i, x, trace);
      CHECK(wrong.json().ends_with("\"by_part\": {}}}"));
    }
  }
}

TEST_CASE("plain products of any shape in f32 and bf16") {
  std::mt19937 random(13);
  const auto device = open_test_device();
  for (const int32_t in : {1, 31, 45, 130}) {
    for (const int32_t rows : {1, 4, 6}) {
      const int32_t outs = static_cast<int32_t>(random() % 40) + 1;
      const std::vector<float> w = random_floats(random, static_cast<size_t>(outs) * in);
      const std::vector<float> x = random_floats(random, static_cast<size_t>(rows) * in);
      const DeviceArray<float> x_device(*device, x), w_f32(*device, w);
      const DeviceArray<uint16_t> w_bf16(*device, to_bf16(w));
      const std::vector<float> bias = random_floats(random, outs, 4);
      const DeviceArray<float> bias_device(*device, bias);
      const bool biased = rows != 4;
      for (const DType dtype : {DType::f32, DType::bf16}) {
        const DeviceArray<float> y(*device, static_cast<size_t>(rows) * outs);
        GemmCall call;
        call.num_projections = 1;
        call.rows = rows;
        call.in = in;
        call.x = x_device.data();
        call.projections[0] = {dtype == DType::f32 ? static_cast<const void*>(w_f32.data()) : w_bf16.data(),
                               y.data(), outs, 0, biased ? bias_device.data() : nullptr};
        plain_gemm(device->stream(), call, dtype);
        const std::vector<float> got = y.get();
        Mismatches wrong("gemm_plain rows " + std::to_string(rows) + " in " + std::to_string(in));
        for (int32_t i = 0; i < rows * outs; ++i) {
          double want = biased ? bias[i % outs] : 0;
          for (int32_t k = 0; k < in; ++k) {
            const float weight = w[i % outs * in + k];
            want += double{x[i / outs * in + k]} *
                    (dtype == DType::f32 ? weight : bf16_to_f32(f32_to_bf16(weight)));
          }
          wrong.compare(i / outs, i % outs, got[i], want, 1e-5 * (10 + std::abs(want)));
        }
        CHECK(wrong.check());
      }
    }
  }
}

TEST_CASE("the quantisation error is at most half a step, or a whole step at the upper end of int4") {
  std::mt19937 random(14);
  const std::vector<float> weights = random_floats(random, 64 * 64);
  const Matrix host = {weights.data(), DType::f32, 64, 64};
  for (const WeightFormat format : {WeightFormat::int8, WeightFormat::int4, WeightFormat::int4_g128}) {
    const auto device = open_test_device();
    Layer layer = {64, {}, std::vector<std::byte>(tiled_bytes(64, 64, format)), {}};
    pack_tiles(host, format, 0, layer.packed.data());
    std::vector<float> identity(64 * 64, 0.0f);
    for (int32_t i = 0; i < 64; ++i) identity[i * 65] = 1;
    const auto got =
        packed_products(*device, {format, 64, 64, {64}}, {layer}, identity)[0];  // [input][output]
    const float step = format == WeightFormat::int8 ? 0.5f / 127 : 1.0f / 8;
    for (int32_t out = 0; out < 64; ++out)
      for (int32_t k = 0; k < 64; ++k)
        REQUIRE(std::abs(got[k * 64 + out] - weights[out * 64 + k]) <= step * 1.001f);
  }
}

TEST_CASE("weights that were decoded from fp8 get their codes and scales back") {
  std::mt19937 random(12);
  constexpr int64_t kOuts = 64, kInputs = 64;
  std::vector<uint8_t> codes(kOuts * kInputs);
  std::vector<float> weights, scales;
  for (int64_t out = 0; out < kOuts; ++out) {
    // No row has the largest number of the format, so that a scale of its own would be another one.
    scales.push_back(0.001f * static_cast<float>(1 + random() % 1000));
    for (int64_t in = 0; in < kInputs; ++in) {
      uint8_t& code = codes[static_cast<size_t>(out * kInputs + in)];
      code = static_cast<uint8_t>(random() % 0x70 | (random() & 0x80));
      weights.push_back(e4m3_to_f32(code) * scales.back());
    }
  }
  std::vector<std::byte> packed(tiled_bytes(kOuts, kInputs, WeightFormat::fp8));
  pack_tiles({weights.data(), DType::f32, kOuts, kInputs, scales.data()}, WeightFormat::fp8, 0,
             packed.data());
  CHECK(std::memcmp(packed.data() + codes.size(), scales.data(), scales.size() * sizeof(float)) == 0);
  std::vector<uint8_t> found(codes.size());
  std::memcpy(found.data(), packed.data(), found.size());
  std::ranges::sort(found);  // the tile has an order of its own
  std::ranges::sort(codes);
  CHECK(found == codes);
}

TEST_CASE("fp8 rounds to the nearest e4m3") {
  for (int bits = 0; bits < 0x100; ++bits) {
    const auto byte = static_cast<uint8_t>(bits);
    if ((byte & 0x7f) == 0x7f)
      CHECK(std::isnan(e4m3_to_f32(byte)));
    else
      CHECK(f32_to_e4m3(e4m3_to_f32(byte)) == byte);
  }
  std::mt19937 random(15);
  for (const float value : random_floats(random, 500, 500)) {
    const float kept = e4m3_to_f32(f32_to_e4m3(value));
    for (int bits = 0; bits < 0x7f; ++bits) {
      const float other = std::copysign(e4m3_to_f32(static_cast<uint8_t>(bits)), value);
      REQUIRE(std::abs(value - kept) <= std::abs(value - other));
    }
  }
  CHECK(std::isnan(e4m3_to_f32(f32_to_e4m3(std::nanf("")))));
}
