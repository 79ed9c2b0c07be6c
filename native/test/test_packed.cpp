// Products with packed weights: compares every format and instruction set with a double-precision sum over
// the quantised values, on odd shapes, in arrays that end at a guard page.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "common/float16.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/packed.h"
#include "test/random_numbers.h"
#include "testing/guarded.h"

using namespace apar;
using namespace apar::cpu;
using namespace apar::test;

namespace {

std::mt19937 rng(23);

float uniform() {
  return random_float(rng);
}
int64_t draw(int64_t from, int64_t to) {
  return random_int(rng, from, to);
}

constexpr WeightFormat kPackedFormats[] = {WeightFormat::bf16, WeightFormat::int8, WeightFormat::int4};

template <class Body>
void for_each_isa(Body body) {
  for (const Isa isa : kAllIsas) {
    if (!supported(isa)) continue;
    CAPTURE(std::string(to_string(isa)));
    body(kernels(isa));
  }
}

std::vector<float> random_floats(int64_t count, float scale) {
  std::vector<float> values(count);
  for (float& value : values) value = uniform() * scale;
  return values;
}

// One weight, read from the packed layout that packed.h describes.
double packed_weight(const std::byte* packed, WeightFormat format, int64_t in, int64_t out, int64_t i) {
  const std::byte* const panel = packed + out / kPanel * panel_bytes(format, in);
  const int64_t lane = out % kPanel;
  const auto half = [](const std::byte* p) {
    uint16_t bits;
    std::memcpy(&bits, p, 2);
    return bits;
  };
  if (format == WeightFormat::bf16)
    return bf16_to_f32(half(panel + ((i / 2 * kPanel + lane) * 2 + i % 2) * 2));
  const bool int4 = format == WeightFormat::int4;
  const int64_t bytes = int4 ? kInt4GroupBytes : kInt8GroupBytes, at = i % kGroup;
  const std::byte* const group = panel + i / kGroup * bytes;
  const double scale = f16_to_f32(half(group + bytes - kPanel * 2 + lane * 2));
  if (!int4) return scale * (static_cast<int32_t>(group[(at / 4 * kPanel + lane) * 4 + at % 4]) - 128);
  const auto both = static_cast<int32_t>(group[(at % 16 / 4 * kPanel + lane) * 4 + at % 4]);
  return scale * ((at < 16 ? both & 15 : both >> 4) - 8);
}

double prepared_input(const std::byte* row, WeightFormat format, int64_t in, int64_t i) {
  if (format == WeightFormat::bf16) {
    uint16_t bits;
    std::memcpy(&bits, row + i * 2, 2);
    return bf16_to_f32(bits);
  }
  float scale;
  std::memcpy(&scale, row + groups(in) * kGroup + i / kGroup * 4, 4);
  return double{scale} * static_cast<int8_t>(row[i]);
}

struct Packed {
  std::vector<float> source;
  Guarded<std::byte> bytes;

  Packed(WeightFormat format, int64_t outs, int64_t in)
      : source(random_floats(outs * in, 0.5f)), bytes(panels(outs) * panel_bytes(format, in)) {
    pack_panels({source.data(), DType::f32, outs, in}, format, 0, panels(outs), bytes.data());
  }
};

void prepare_rows(const PackedKernels& k, const float* x, int64_t rows, int64_t in, WeightFormat format,
                  std::byte* prepared) {
  for (int64_t row = 0; row < rows; ++row)
    k.prepare(x + row * in, in, prepared + row * prepared_bytes(format, in));
}

void check_product(const Kernels& kernels, WeightFormat format, int64_t rows, int64_t outs, int64_t in) {
  CAPTURE(std::string(to_string(format)));
  CAPTURE(rows);
  CAPTURE(outs);
  CAPTURE(in);
  const PackedKernels& k = kernels.packed(format);
  const Packed w(format, outs, in);
  const Guarded<float> x(rows * in), y(rows * outs), one(outs);
  for (float& value : x) value = uniform();
  const int64_t stride = prepared_bytes(format, in);
  const Guarded<std::byte> prepared(rows * stride);
  prepare_rows(k, x.data(), rows, in, format, prepared.data());
  const int64_t middle = draw(0, panels(outs));
  k.multiply(w.bytes.data(), prepared.data(), y.data(), {rows, in, outs, 0, middle, outs});
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t out = middle * kPanel; out < outs; ++out) CHECK(std::isnan(y[row * outs + out]));
  k.multiply(w.bytes.data(), prepared.data(), y.data(), {rows, in, outs, middle, panels(outs), outs});
  double worst = 0;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t out = 0; out < outs; ++out) {
      double want = 0;
      for (int64_t i = 0; i < in; ++i)
        want += packed_weight(w.bytes.data(), format, in, out, i) *
                prepared_input(prepared.data() + row * stride, format, in, i);
      const double difference = std::abs(y[row * outs + out] - want);
      REQUIRE(std::isfinite(difference));
      worst = std::max(worst, difference);
    }
    k.multiply(w.bytes.data(), prepared.data() + row * stride, one.data(),
               {1, in, outs, 0, panels(outs), outs});
    CHECK(std::memcmp(one.data(), y.data() + row * outs, outs * sizeof(float)) == 0);
  }
  CHECK(worst < 1e-7 * static_cast<double>(in) + 1e-6);
}

}  // namespace

TEST_CASE(
    "products with packed weights give the reference result, and a row has the same bits alone and in a "
    "batch") {
  for_each_isa([](const Kernels& k) {
    for (const WeightFormat format : kPackedFormats) {
      check_product(k, format, 1, 1, 1);
      check_product(k, format, 8, 32, 32);
      check_product(k, format, 9, 64, 64);
      for (int i = 0; i < 25; ++i) check_product(k, format, draw(1, 30), draw(1, 140), draw(1, 200));
      check_product(k, format, 600, 40, 300);  // partial sums are stored between ranges of inputs
      check_product(k, format, 37, 33, 5003);
    }
  });
}

TEST_CASE("the error of a quantised weight is at most half a step, and none for the largest of its group") {
  for (const WeightFormat format : {WeightFormat::int8, WeightFormat::int4}) {
    const int64_t outs = 45, in = 71;
    const Packed w(format, outs, in);
    for (int64_t out = 0; out < outs; ++out) {
      for (int64_t first = 0; first < in; first += kGroup) {
        const int64_t end = std::min(first + kGroup, in);
        double largest = 0;
        for (int64_t i = first; i < end; ++i)
          largest = std::max(largest, std::abs(double{w.source[out * in + i]}));
        const double step = largest / (format == WeightFormat::int8 ? 127 : 8);
        for (int64_t i = first; i < end; ++i) {
          const double kept = packed_weight(w.bytes.data(), format, in, out, i),
                       want = w.source[out * in + i];
          // int4 has only 7 steps on the side opposite to the largest weight. The scale is rounded to f16.
          const bool clipped = format == WeightFormat::int4 && std::abs(want) > 7.5 * step;
          CHECK(std::abs(kept - want) <= step * (clipped ? 1 : 0.5) + largest * 0x1p-11);
          if (std::abs(want) == largest) CHECK(std::abs(kept - want) <= largest * 0x1p-11);
        }
      }
    }
  }
}

TEST_CASE("the same values pack to the same bytes from every dtype") {
  const int64_t outs = 35, in = 50;
  std::vector<float> wide(outs * in);
  std::vector<uint16_t> bf16, f16;
  for (float& value : wide) {
    value = bf16_to_f32(f32_to_bf16(uniform()));
    if (std::abs(value) < 0x1p-10f) value = 0;  // exact in f16, too
    bf16.push_back(f32_to_bf16(value));
    f16.push_back(f32_to_f16(value));
  }
  for (const WeightFormat format : kPackedFormats) {
    std::vector<std::vector<std::byte>> packed;
    for (const Matrix& source : {Matrix{wide.data(), DType::f32, outs, in},
                                 {bf16.data(), DType::bf16, outs, in},
                                 {f16.data(), DType::f16, outs, in}}) {
      packed.emplace_back(panels(outs) * panel_bytes(format, in));
      pack_panels(source, format, 0, panels(outs), packed.back().data());
    }
    CHECK(packed[0] == packed[1]);
    CHECK(packed[0] == packed[2]);
  }
}

TEST_CASE("every instruction set prepares activations to the same bytes") {
  for (int round = 0; round < 60; ++round) {
    const int64_t in = draw(1, 200);
    std::vector<float> x = random_floats(in, round % 4 == 0 ? 1e4f : 1.0f);
    if (round % 5 == 0) std::fill_n(x.begin(), std::min<int64_t>(in, kGroup), 0.0f);
    for (const WeightFormat format : kPackedFormats) {
      const size_t bytes = prepared_bytes(format, in);
      std::vector<std::byte> want(bytes), got(bytes);
      reference_kernels.packed(format).prepare(x.data(), in, want.data());
      for_each_isa([&](const Kernels& k) {
        k.packed(format).prepare(x.data(), in, got.data());
        CHECK(want == got);
      });
    }
  }
}

TEST_CASE("f16: every value survives the conversion to f32 and back, values in between round to even") {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = f16_to_f32(static_cast<uint16_t>(bits));
    if (std::isnan(value)) continue;
    REQUIRE(f32_to_f16(value) == bits);
    if (!std::isfinite(value) || (bits & 0x7fff) == 0x7bff) continue;
    const float next = f16_to_f32(static_cast<uint16_t>(bits + 1)), middle = (value + next) / 2;
    REQUIRE(f32_to_f16(middle) == (bits % 2 == 0 ? bits : bits + 1));
    REQUIRE(f32_to_f16(std::nextafter(middle, value)) == bits);
    REQUIRE(f32_to_f16(std::nextafter(middle, next)) == bits + 1);
  }
  CHECK(f32_to_f16(65520.0f) == 0x7c00);
  CHECK(std::isnan(f16_to_f32(f32_to_f16(std::numeric_limits<float>::quiet_NaN()))));
}

TEST_CASE("a NaN or infinity in the inputs reaches all outputs") {
  const int64_t outs = 33, in = 70;
  for_each_isa([&](const Kernels& k) {
    for (const WeightFormat format : kPackedFormats) {
      for (const float special :
           {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        const Packed w(format, outs, in);
        std::vector<float> x = random_floats(in, 1), y(outs);
        x[65] = special;
        std::vector<std::byte> prepared(prepared_bytes(format, in));
        k.packed(format).prepare(x.data(), in, prepared.data());
        k.packed(format).multiply(w.bytes.data(), prepared.data(), y.data(),
                                  {1, in, outs, 0, panels(outs), outs});
        for (const float value : y) CHECK(!std::isfinite(value));
      }
    }
  });
}

TEST_CASE("bf16 weights are packed alike from bf16 and from f32") {
  for (const auto& [outs, in] :
       {std::pair<int64_t, int64_t>{1, 1}, {32, 32}, {33, 31}, {40, 64}, {64, 65}, {95, 200}}) {
    CAPTURE(outs);
    CAPTURE(in);
    Guarded<uint16_t> stored(static_cast<size_t>(outs * in));
    std::vector<float> widened;
    for (int64_t i = 0; i < outs * in; ++i) {
      stored.data()[i] = f32_to_bf16(uniform());
      widened.push_back(bf16_to_f32(stored.data()[i]));
    }
    const auto bytes = static_cast<size_t>(panels(outs) * panel_bytes(WeightFormat::bf16, in));
    std::vector<std::byte> direct(bytes, std::byte{0x55}), converted(bytes, std::byte{0xaa});
    pack_panels({stored.data(), DType::bf16, outs, in}, WeightFormat::bf16, 0, panels(outs), direct.data());
    pack_panels({widened.data(), DType::f32, outs, in}, WeightFormat::bf16, 0, panels(outs),
                converted.data());
    CHECK(direct == converted);
  }
}
