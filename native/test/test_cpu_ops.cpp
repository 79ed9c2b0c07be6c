// CpuOps as a device: behaviour that the tests of single kernels do not cover.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>

#include "common/error.h"
#include "common/float16.h"
#include "ops/cpu/cpu_ops.h"

using namespace apar;
using namespace apar::cpu;

namespace {

constexpr int32_t kHeads = 4, kKvHeads = 2, kHeadDim = 6, kBlocks = 4;

std::vector<float> ramp(size_t count, float step) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = std::sin(static_cast<float>(i) * step);
  return values;
}

// Attention of one step with one sequence in one node. q, k and v are fixed; with `poison`, k and v are NaN.
std::vector<float> attend(CpuOps& ops, std::span<const int32_t> blocks, int32_t offset, int32_t rows,
                          bool poison) {
  std::vector<int32_t> tokens(rows), positions(rows), slots;
  std::iota(positions.begin(), positions.end(), 0);
  for (int32_t i = 0; i < rows; ++i)
    slots.push_back(blocks[(offset + i) / kBlockTokens] * kBlockTokens + (offset + i) % kBlockTokens);
  const SequenceRows sequence = {0, rows, 0, 1, rows};
  const KvNodeView node = {blocks, offset, rows};
  const int32_t path = 0;
  const StepBatch batch = {tokens, positions, slots, {&sequence, 1}, {&node, 1}, {&path, 1}, {}};
  std::vector<float> q = ramp(rows * kHeads * kHeadDim, 0.7f), k = ramp(rows * kKvHeads * kHeadDim, 0.3f),
                     v = ramp(rows * kKvHeads * kHeadDim, 0.11f), out(q.size());
  if (poison) k.assign(k.size(), NAN), v.assign(v.size(), NAN);
  ops.begin_step(batch);
  ops.rope_and_store(0, q.data(), k.data(), v.data(), {});
  ops.attention(0, q.data(), out.data());
  return out;
}

}  // namespace

TEST_CASE("a NaN in KV slots outside a row's path does not change the row's result") {
  for (const Isa isa : kAllIsas) {
    if (!supported(isa)) continue;
    for (const KvFormat format : {KvFormat::f32, KvFormat::bf16}) {
      const OpsConfig config = {.num_layers = 1,
                                .num_heads = kHeads,
                                .num_kv_heads = kKvHeads,
                                .head_dim = kHeadDim,
                                .rope_frequencies = {1, 0.1f},
                                .kv_format = format,
                                .num_blocks = kBlocks,
                                .max_rows = 64,
                                .max_context = 64};
      const std::vector<int32_t> all = {0, 1, 2, 3}, some = {3, 1};
      for (const int32_t offset : {0, 5}) {
        CpuOps clean(config, isa, 2), dirty(config, isa, 2);
        attend(dirty, all, 0, 64, true);
        const auto want = attend(clean, some, offset, 21, false),
                   got = attend(dirty, some, offset, 21, false);
        for (const float value : want) REQUIRE(std::isfinite(value));
        CHECK(std::memcmp(want.data(), got.data(), want.size() * sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE("embed in f32 and bf16, gather_rows") {
  const OpsConfig config = {.num_layers = 1,
                            .num_heads = 1,
                            .num_kv_heads = 1,
                            .head_dim = 2,
                            .num_blocks = 1,
                            .max_rows = 4,
                            .max_context = 16};
  CpuOps ops(config, Isa::reference, 1);
  const std::vector<float> table = ramp(5 * 3, 0.4f);
  std::vector<uint16_t> rounded;
  for (const float value : table) rounded.push_back(f32_to_bf16(value));
  const std::vector<int32_t> tokens = {4, 0, 4};
  const StepBatch batch = {tokens, {}, {}, {}, {}, {}, {}};
  ops.begin_step(batch);
  float x[9];
  ops.embed({table.data(), DType::f32, 5, 3}, x);
  for (int i = 0; i < 9; ++i) CHECK(x[i] == table[tokens[i / 3] * 3 + i % 3]);
  ops.embed({rounded.data(), DType::bf16, 5, 3}, x);
  for (int i = 0; i < 9; ++i) CHECK(x[i] == bf16_to_f32(rounded[tokens[i / 3] * 3 + i % 3]));
  float gathered[6];
  const std::vector<int32_t> ids = {2, 1};
  ops.gather_rows(x, ids, 3, gathered);
  CHECK(std::memcmp(gathered, x + 6, 12) == 0);
  CHECK(std::memcmp(gathered + 3, x + 3, 12) == 0);
}

TEST_CASE("fp8 KV cache, f16 and fp8 weights and sizes beyond 64 bits are refused") {
  OpsConfig config = {.num_layers = 1,
                      .num_heads = 1,
                      .num_kv_heads = 1,
                      .head_dim = 2,
                      .kv_format = KvFormat::fp8,
                      .num_blocks = 1,
                      .max_rows = 4,
                      .max_context = 16};
  CHECK_THROWS_AS(CpuOps(config, Isa::reference, 1), Error);
  config.kv_format = KvFormat::f32;
  CpuOps ops(config, Isa::reference, 1);
  CHECK_THROWS_AS(ops.allocate(std::numeric_limits<size_t>::max() / 2, Axis::whole), Error);
  const std::vector<float> weights(8, 1.0f);
  for (const WeightFormat format : {WeightFormat::f16, WeightFormat::fp8, WeightFormat::int4_g128})
    CHECK_THROWS_AS(ops.place_linear({weights.data(), DType::f32, 2, 4}, format, {}), Error);
}
