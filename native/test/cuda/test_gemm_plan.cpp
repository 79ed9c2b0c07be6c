// Numbers that decide launches and memory, without a device.
#include <doctest/doctest.h>

#include "common/error.h"
#include "ops/cuda/gemm/plan.h"
#include "ops/cuda/memory_plan.h"

using namespace apar;
using namespace apar::cuda;

namespace {

GemmPlan plan(int32_t rows, int32_t tiles, int32_t input_tiles, GemmChoice choice = GemmChoice::mma) {
  return plan_gemm(rows, tiles, input_tiles, WeightFormat::bf16, {132, 90, choice});
}

}  // namespace

TEST_CASE("the parts of a sum depend on the layer alone, so that a row has the same bits in every batch") {
  for (const int32_t tiles : {1, 64, 192, 344, 500}) {
    for (const int32_t input_tiles : {1, 3, 64, 172}) {
      const int32_t splits = plan(1, tiles, input_tiles).splits;
      CHECK(splits >= 1);
      CHECK(splits <= kMaxSplits);
      CHECK(splits <= input_tiles);
      for (int32_t rows = 1; rows < 1200; rows += 7) CHECK(plan(rows, tiles, input_tiles).splits == splits);
    }
  }
}

TEST_CASE("tiles hold the rows, and blocks fill the device where the inputs allow it") {
  for (int32_t rows = 1; rows <= 128; ++rows) {
    const GemmPlan cut = plan(rows, 64, 64);
    CHECK(cut.tile_rows >= rows);
    CHECK((cut.tile_rows == 8 || cut.tile_rows < 2 * rows));
    CHECK(cut.in_turn == false);
    CHECK((cut.kernel == GemmKernel::stream) == (rows <= kMaxStreamRows));
    CHECK(64 * cut.splits >= 132);
    CHECK(partial_floats(cut, rows, 64) == int64_t{cut.splits} * rows * 64 * 64);
  }
  const GemmPlan prompt = plan(512, 64, 64);  // enough tiles by itself
  CHECK(prompt.in_turn);
  CHECK(partial_floats(prompt, 512, 64) == 0);
  CHECK(plan(1, 500, 64).splits == 1);
}

TEST_CASE("parts fill whole waves of blocks, two to a multiprocessor") {
  constexpr int32_t at_once = 2 * 132;
  const auto waves = [](int32_t tiles, int32_t splits) { return tiles_of(tiles * splits, at_once); };
  // Llama-7B at 128 rows: o and down, 64 tiles, in 4 parts rather than 5; q, k and v; gate and up.
  CHECK(plan(128, 64, 64).splits == 4);
  CHECK(plan(128, 64, 172).splits == 4);
  CHECK(plan(128, 192, 64).splits == 2);
  CHECK(plan(128, 344, 64).splits == 1);
  for (int32_t tiles = 1; tiles < 600; ++tiles) {
    const int32_t splits = plan(128, tiles, 64).splits;
    // No fewer parts than that would be done sooner.
    for (int32_t fewer = 1; fewer < splits; ++fewer)
      CHECK(waves(tiles, splits) * fewer <= waves(tiles, fewer) * splits);
    if (tiles <= at_once) CHECK((tiles * splits > at_once / 2 || splits == kMaxSplits));
    if (tiles <= at_once / 2) CHECK(waves(tiles, splits) == 1);
  }
  CHECK(plan(128, 64, 12).splits == 3);  // a part has four tiles of inputs at least
}

TEST_CASE("the room for partial sums is enough for every product, and little") {
  constexpr int32_t max_rows = 1500;
  for (const GemmChoice choice : {GemmChoice::mma, GemmChoice::wgmma, GemmChoice::automatic}) {
    const GemmDevice device = {132, 90, choice};
    const GemmScratch most = most_gemm_scratch(max_rows, device);
    CHECK(bytes_of(most) < 100 << 20);
    bool reached = false;
    for (const WeightFormat format : {WeightFormat::bf16, WeightFormat::fp8, WeightFormat::int4}) {
      for (int32_t tiles = 1; tiles < 2100; tiles += tiles < 300 ? 1 : 90) {
        for (const int32_t input_tiles : {1, 17, 64, 300}) {
          for (int32_t rows = 1; rows <= max_rows; rows += rows < 130 ? 1 : 37) {
            const GemmScratch one =
                gemm_scratch(plan_gemm(rows, tiles, input_tiles, format, device), rows, tiles);
            REQUIRE((one.partials <= most.partials && one.arrived <= most.arrived));
            reached |= 2 * one.partials > most.partials;
          }
        }
      }
    }
    CHECK(reached);
  }
  CHECK(most_gemm_scratch(1, {132, 90}).partials < most_gemm_scratch(64, {132, 90}).partials);
}

TEST_CASE("wgmma only when asked for, and where it is") {
  for (const int32_t rows : {1, 15, 16, 64, 512}) {
    CHECK(plan(rows, 64, 64).kernel != GemmKernel::wgmma);
    CHECK(plan(rows, 64, 64, GemmChoice::wgmma).kernel == GemmKernel::wgmma);
    CHECK((plan(rows, 64, 64, GemmChoice::automatic).kernel == GemmKernel::wgmma) == (rows >= kMinWgmmaRows));
    CHECK(plan(rows, 64, 64, GemmChoice::wgmma).splits == plan(rows, 64, 64).splits);
    CHECK(plan_gemm(rows, 64, 64, WeightFormat::bf16, {132, 80, GemmChoice::automatic}).kernel !=
          GemmKernel::wgmma);
    CHECK_THROWS_AS(plan_gemm(rows, 64, 64, WeightFormat::bf16, {132, 80, GemmChoice::wgmma}), Error);
  }
  CHECK(plan(9, 64, 64, GemmChoice::wgmma).tile_rows == 32);
  CHECK(plan(200, 64, 64, GemmChoice::wgmma).tile_rows == 128);
  CHECK(plan_gemm(200, 64, 64, WeightFormat::int4, {132, 90, GemmChoice::wgmma}).tile_rows == 64);
  CHECK(parse_gemm_choice("auto") == GemmChoice::automatic);
  CHECK_THROWS_AS(parse_gemm_choice("fast"), Error);
}

TEST_CASE("cuBLASLt for long prompts in bf16, when asked for and found") {
  const auto kernel = [](int32_t rows, GemmChoice choice, bool found, WeightFormat format) {
    return plan_gemm(rows, 64, 64, format, {132, 80, choice, found}).kernel;
  };
  using enum GemmChoice;
  for (const GemmChoice choice : {cublaslt, automatic}) {
    CHECK(kernel(kMinCublasLtRows, choice, true, WeightFormat::bf16) == GemmKernel::cublaslt);
    CHECK(kernel(kMinCublasLtRows - 1, choice, true, WeightFormat::bf16) == GemmKernel::mma);
    CHECK(kernel(kMinCublasLtRows, choice, false, WeightFormat::bf16) == GemmKernel::mma);
    CHECK(kernel(kMinCublasLtRows, choice, true, WeightFormat::int8) == GemmKernel::mma);
  }
  CHECK(kernel(kMinCublasLtRows, mma, true, WeightFormat::bf16) == GemmKernel::mma);
  CHECK(parse_gemm_choice("cublaslt") == cublaslt);
}

TEST_CASE("few different numbers of rows, never more than there is room for") {
  CHECK(padded_rows(0, 100) == 0);  // a step without logits is another shape than one with a row of them
  CHECK(padded_rows(1, 100) == 1);
  CHECK(padded_rows(3, 100) == 4);
  CHECK(padded_rows(97, 100) == 100);
  CHECK(padded_rows(350, 512) == 384);
  CHECK(padded_rows(700, 1024) == 700);
  for (int32_t rows = 1; rows <= 512; ++rows) {
    CHECK(padded_rows(rows, 512) >= rows);
    CHECK(padded_rows(rows, 512) <= 2 * rows);
  }
}

TEST_CASE("KV blocks from free memory") {
  const OpsConfig llama_7b = {.num_layers = 32,
                              .num_heads = 32,
                              .num_kv_heads = 32,
                              .head_dim = 128,
                              .kv_format = KvFormat::bf16,
                              .num_blocks = 0,
                              .max_rows = 512,
                              .max_context = 4096};
  CHECK(kv_pool_bytes(llama_7b, 1) == uint64_t{512} * 1024 * kBlockTokens);
  constexpr uint64_t gib = uint64_t{1} << 30;
  CHECK(affordable_blocks(llama_7b, 24 * gib, 14 * gib, 0.0) == 10 * 128);
  CHECK(affordable_blocks(llama_7b, 24 * gib, 14 * gib, 0.5) == 0);
  CHECK(affordable_blocks(llama_7b, 10 * gib, 14 * gib, 0.1) == 0);
  // Half the bytes, and 4 of scales for 256 elements of a token's head: 1.97 times the blocks.
  OpsConfig fp8 = llama_7b;
  fp8.kv_format = KvFormat::fp8;
  CHECK(kv_pool_bytes(fp8, 1) == uint64_t{260} * 1024 * kBlockTokens);
  CHECK(affordable_blocks(fp8, 24 * gib, 14 * gib, 0.0) == 2520);
}
