// What the kernels on AMX tiles promise beyond test_packed and test_invariance: the order of their bf16 sums,
// and the bits of int8 and int4 products, which are those of AVX-512. No emulator at hand runs AMX.
#include <doctest/doctest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <random>
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

std::mt19937 rng(60);

bool has_amx() {
  if (supported(Isa::amx)) return true;
  MESSAGE("skipped: this processor has no AMX, or the system does not permit it");
  return false;
}

std::vector<float> random_floats(int64_t count, float scale) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = random_float(rng) * scale;
  return values;
}

float flushed(float x) {
  return std::fabs(x) < FLT_MIN ? std::copysign(0.0f, x) : x;
}
float rounded(float x) {
  return flushed(bf16_to_f32(f32_to_bf16(x)));
}

// The definition of TDPBF16PS: 32 inputs at a time, the even and the odd ones in chains of their own.
float tile_order_sum(const float* w, const float* x, int64_t in) {
  float sum = 0;
  for (int64_t begin = 0; begin < in; begin += 32) {
    float chains[2] = {0, 0};
    for (int64_t i = begin; i < std::min(begin + 32, in); ++i)
      chains[i % 2] = flushed(std::fma(rounded(w[i]), rounded(x[i]), chains[i % 2]));
    sum = flushed(sum + flushed(chains[0] + chains[1]));
  }
  return sum;
}

std::vector<float> product(Isa isa, WeightFormat format, const std::vector<float>& w,
                           const std::vector<float>& x, int64_t rows, int64_t outs, int64_t in) {
  const PackedKernels& k = kernels(isa).packed(format);
  const Guarded<std::byte> packed(panels(outs) * panel_bytes(format, in)),
      prepared(rows * prepared_bytes(format, in));
  pack_panels({w.data(), DType::f32, outs, in}, format, 0, panels(outs), packed.data());
  for (int64_t row = 0; row < rows; ++row)
    k.prepare(x.data() + row * in, in, prepared.data() + row * prepared_bytes(format, in));
  const Guarded<float> y(rows * outs);
  k.multiply(packed.data(), prepared.data(), y.data(), {rows, in, outs, 0, panels(outs), outs});
  return {y.begin(), y.end()};
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Calls check(rows, outs, in) for shapes with whole and partial tiles and panels, and for inputs that do not
// fit the caches at once.
template <class Check>
void for_each_shape(Check check) {
  for (const int64_t rows : {1, 2, 15, 16, 17, 31, 32, 33, 50})
    for (const int64_t in : {1, 2, 31, 32, 33, 64, 95, 200}) check(rows, random_int(rng, 1, 80), in);
  check(600, 33, 70);
  check(512, 32, 2080);
  check(40, 64, 20000);
}

}  // namespace

TEST_CASE("bf16 products on tiles have the bits of the instruction's definition") {
  if (!has_amx()) return;
  for (const float scale : {1.0f, 1e-19f}) {  // products of the second are around the smallest normal number
    for_each_shape([&](int64_t rows, int64_t outs, int64_t in) {
      CAPTURE(rows);
      CAPTURE(outs);
      CAPTURE(in);
      const auto w = random_floats(outs * in, scale), x = random_floats(rows * in, scale);
      std::vector<float> want(static_cast<size_t>(rows * outs));
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t out = 0; out < outs; ++out)
          want[static_cast<size_t>(row * outs + out)] =
              tile_order_sum(w.data() + out * in, x.data() + row * in, in);
      CHECK(same_bits(product(Isa::amx, WeightFormat::bf16, w, x, rows, outs, in), want));
    });
  }
}

TEST_CASE("int8 and int4 products on tiles have the bits of those on AVX-512") {
  if (!has_amx()) return;
  for (const WeightFormat format : {WeightFormat::int8, WeightFormat::int4})
    for_each_shape([&](int64_t rows, int64_t outs, int64_t in) {
      CAPTURE(to_string(format));
      CAPTURE(rows);
      CAPTURE(outs);
      CAPTURE(in);
      const auto w = random_floats(outs * in, 0.5f), x = random_floats(rows * in, 3.0f);
      CHECK(same_bits(product(Isa::amx, format, w, x, rows, outs, in),
                      product(Isa::avx512_bf16, format, w, x, rows, outs, in)));
    });
}
