// The order of the bf16 sums of the kernels on AMX tiles. That a row has the same bits in every batch is for
// test_packed and test_invariance. No emulator at hand has AMX: elsewhere nothing is tested.
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

std::vector<float> product(const std::vector<float>& w, const std::vector<float>& x, int64_t rows,
                           int64_t outs, int64_t in) {
  const PackedKernels& k = kernels(Isa::amx).bf16;
  const Guarded<std::byte> packed(panels(outs) * panel_bytes(WeightFormat::bf16, in)),
      prepared(rows * prepared_bytes(WeightFormat::bf16, in));
  pack_panels({w.data(), DType::f32, outs, in}, WeightFormat::bf16, 0, panels(outs), packed.data());
  for (int64_t row = 0; row < rows; ++row)
    k.prepare(x.data() + row * in, in, prepared.data() + row * prepared_bytes(WeightFormat::bf16, in));
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
  check(256, 32, 2080);
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
      CHECK(same_bits(product(w, x, rows, outs, in), want));
    });
  }
}

TEST_CASE("bf16 scores on tiles have the bits of the instruction's definition") {
  if (!has_amx()) return;
  for (const int64_t head_dim : {2, 8, 32, 62, 64, 80, 128})
    for (const int64_t queries : {1, 3, 8, 9, 19}) {
      CAPTURE(head_dim);
      CAPTURE(queries);
      const auto q = random_floats(queries * head_dim, 1), keys = random_floats(kBlockTokens * head_dim, 1);
      const Guarded<uint16_t> rounded((queries + kQueryPadding) * head_dim), block(kBlockTokens * head_dim);
      std::transform(q.begin(), q.end(), rounded.begin(), f32_to_bf16);
      for (int64_t i = 0; i < kBlockTokens * head_dim; ++i) {
        const int64_t token = i / head_dim, at = i % head_dim;
        block[static_cast<size_t>((at / 2 * kBlockTokens + token) * 2 + at % 2)] =
            f32_to_bf16(keys[static_cast<size_t>(i)]);
      }
      const int64_t stride = kBlockTokens + 3;
      const Guarded<float> scores((queries - 1) * stride + kBlockTokens);
      kernels(Isa::amx).scores_bf16(block.data(), rounded.data(), queries, head_dim, scores.data(), stride);
      for (int64_t query = 0; query < queries; ++query)
        for (int64_t token = 0; token < kBlockTokens; ++token) {
          const float want =
              tile_order_sum(keys.data() + token * head_dim, q.data() + query * head_dim, head_dim);
          CHECK(std::memcmp(&want, &scores[static_cast<size_t>(query * stride + token)], sizeof(want)) == 0);
        }
    }
}
