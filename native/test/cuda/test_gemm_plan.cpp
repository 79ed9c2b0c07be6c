// The plans for launches and memory, without a device.
#include <doctest/doctest.h>

#include <algorithm>

#include "common/error.h"
#include "ops/cuda/gemm/plan.h"
#include "ops/cuda/memory_plan.h"

using namespace apar;
using namespace apar::cuda;

namespace {

GemmPlan plan(int32_t rows, int32_t tiles, int32_t input_tiles, GemmBackend backend = GemmBackend::mma) {
  return plan_gemm(rows, tiles, input_tiles, WeightFormat::bf16, {132, 90, backend});
}

}  // namespace

TEST_CASE("the splits of a sum depend on the layer alone, so that a row has the same bits in every batch") {
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

TEST_CASE("tiles hold all rows, and blocks fill the device if there are enough inputs") {
  for (int32_t rows = 1; rows <= 128; ++rows) {
    const GemmPlan cut = plan(rows, 64, 64);
    CHECK(cut.tile_rows >= rows);
    CHECK((cut.tile_rows == 8 || cut.tile_rows < 2 * rows));
    CHECK(cut.sequential == false);
    CHECK((cut.kernel == GemmKernel::stream) == (rows <= kMaxStreamRows));
    CHECK(64 * cut.splits >= 132);
    CHECK(partial_floats(cut, rows, 64) == int64_t{cut.splits} * rows * 64 * 64);
  }
  const GemmPlan prompt = plan(512, 64, 64);  // has enough tiles without splits
  CHECK(prompt.sequential);
  CHECK(partial_floats(prompt, 512, 64) == 0);
  CHECK(plan(1, 500, 64).splits == 1);
}

TEST_CASE("splits fill whole waves of blocks, with two blocks per multiprocessor") {
  constexpr int32_t at_once = 2 * 132;
  const auto waves = [](int32_t tiles, int32_t splits) { return tiles_of(tiles * splits, at_once); };
  // Llama-7B at 128 rows: o and down (64 tiles, 4 splits rather than 5); q, k and v; gate and up.
  CHECK(plan(128, 64, 64).splits == 4);
  CHECK(plan(128, 64, 172).splits == 4);
  CHECK(plan(128, 192, 64).splits == 2);
  CHECK(plan(128, 344, 64).splits == 1);
  for (int32_t tiles = 1; tiles < 600; ++tiles) {
    const int32_t splits = plan(128, tiles, 64).splits;
    // No smaller number of splits is faster.
    for (int32_t fewer = 1; fewer < splits; ++fewer)
      CHECK(waves(tiles, splits) * fewer <= waves(tiles, fewer) * splits);
    if (tiles <= at_once) CHECK((tiles * splits > at_once / 2 || splits == kMaxSplits));
    if (tiles <= at_once / 2) CHECK(waves(tiles, splits) == 1);
  }
  CHECK(plan(128, 64, 12).splits == 3);  // a split has at least four tiles of inputs
}

TEST_CASE("the memory for partial sums is enough for every product, and small") {
  constexpr int32_t max_rows = 1500;
  for (const GemmBackend backend : {GemmBackend::mma, GemmBackend::wgmma, GemmBackend::automatic}) {
    const GemmDevice device = {132, 90, backend};
    const GemmScratch max = max_gemm_scratch(max_rows, device);
    CHECK(bytes_of(max) < 100 << 20);
    bool reached = false;
    for (const WeightFormat format :
         {WeightFormat::bf16, WeightFormat::fp8, WeightFormat::int4, WeightFormat::int4_g128}) {
      for (int32_t tiles = 1; tiles < 2100; tiles += tiles < 300 ? 1 : 90) {
        for (const int32_t input_tiles : {1, 17, 64, 300}) {
          for (int32_t rows = 1; rows <= max_rows; rows += rows < 130 ? 1 : 37) {
            const GemmScratch one =
                gemm_scratch(plan_gemm(rows, tiles, input_tiles, format, device), rows, tiles);
            REQUIRE((one.partials <= max.partials && one.arrived <= max.arrived));
            reached |= 2 * one.partials > max.partials;
          }
        }
      }
    }
    CHECK(reached);
  }
  CHECK(max_gemm_scratch(1, {132, 90}).partials < max_gemm_scratch(64, {132, 90}).partials);
}

TEST_CASE("wgmma is used only when it is requested and supported") {
  for (const int32_t rows : {1, 15, 16, 64, 512}) {
    CHECK(plan(rows, 64, 64).kernel != GemmKernel::wgmma);
    CHECK(plan(rows, 64, 64, GemmBackend::wgmma).kernel == GemmKernel::wgmma);
    CHECK((plan(rows, 64, 64, GemmBackend::automatic).kernel == GemmKernel::wgmma) ==
          (rows >= kMinWgmmaRows));
    CHECK(plan(rows, 64, 64, GemmBackend::wgmma).splits == plan(rows, 64, 64).splits);
    CHECK(plan_gemm(rows, 64, 64, WeightFormat::bf16, {132, 80, GemmBackend::automatic}).kernel !=
          GemmKernel::wgmma);
    CHECK_THROWS_AS(plan_gemm(rows, 64, 64, WeightFormat::bf16, {132, 80, GemmBackend::wgmma}), Error);
  }
  CHECK(plan(9, 64, 64, GemmBackend::wgmma).tile_rows == 32);
  CHECK(plan_gemm(200, 64, 64, WeightFormat::int4, {132, 90, GemmBackend::wgmma}).tile_rows == 128);
  CHECK(parse_gemm_backend("auto") == GemmBackend::automatic);
  CHECK_THROWS_AS(parse_gemm_backend("fast"), Error);
}

TEST_CASE("wgmma: the splits depend on the layer alone, also where other kernels compute few rows") {
  for (const GemmBackend backend : {GemmBackend::wgmma, GemmBackend::automatic}) {
    for (int32_t tiles = 1; tiles < 600; tiles += tiles < 140 ? 1 : 23) {
      for (const int32_t input_tiles : {1, 3, 12, 64, 172}) {
        const int32_t splits = plan(1, tiles, input_tiles, backend).splits;
        CHECK(splits >= 1);
        CHECK(splits <= std::clamp(input_tiles / 4, 1, kMaxSplits));
        for (int32_t rows = 2; rows < 2100; rows += 13)
          REQUIRE(plan(rows, tiles, input_tiles, backend).splits == splits);
      }
    }
  }
}

TEST_CASE("wgmma: splits fill whole waves of work items, with one block per multiprocessor") {
  const auto splits = [](int32_t tiles, int32_t input_tiles) {
    return plan(32, tiles, input_tiles, GemmBackend::wgmma).splits;
  };
  CHECK(splits(64, 64) == 4);  // Llama-7B: o and down; q, k and v; gate and up
  CHECK(splits(64, 172) == 4);
  CHECK(splits(192, 64) == 2);
  CHECK(splits(344, 64) == 1);
  // An odd number of tiles has an item of one tile. 67 tiles are 34 items, of which three splits fit at once;
  // as single tiles, two per multiprocessor, so would three.
  CHECK(splits(67, 64) == 3);
  CHECK(splits(1, 64) == kMaxSplits);
  for (int32_t tiles = 1; tiles < 400; ++tiles) {
    const int32_t pairs = tiles_of(tiles, kWgmmaTiles);
    if (pairs <= 132 / 2) CHECK(pairs * splits(tiles, 172) <= 132);
    if (pairs > 132) CHECK(splits(tiles, 172) == 1);
  }
}

TEST_CASE("wgmma: tiles of rows fit the kernels and leave few multiprocessors without work") {
  for (const WeightFormat format : {WeightFormat::bf16, WeightFormat::f16, WeightFormat::int4}) {
    for (int32_t rows = 1; rows < 3000; rows += rows < 140 ? 1 : 29) {
      for (const int32_t tiles : {1, 2, 63, 64, 172, 192, 344, 500, 2000}) {
        const GemmPlan cut = plan_gemm(rows, tiles, 64, format, {132, 90, GemmBackend::wgmma});
        const int32_t sums = tiles_of(tiles, kWgmmaTiles) * tiles_of(rows, cut.tile_rows);
        const bool in_parallel = cut.splits > 1 && !cut.sequential;
        REQUIRE(cut.blocks == std::min(132, sums * (in_parallel ? cut.splits : 1)));
        REQUIRE(cut.tile_rows <= (format == WeightFormat::bf16 ? kMaxWgmmaTileRows : kMaxTileRows));
        if (cut.sequential) REQUIRE(cut.tile_rows <= kMaxSequentialWgmmaRows);
        if (cut.sequential) REQUIRE(cut.splits > 1);
        if (in_parallel) REQUIRE(sums * cut.splits <= 2 * 132);
      }
    }
  }
  const auto cut = [](int32_t rows, int32_t tiles, int32_t input_tiles) {
    return plan(rows, tiles, input_tiles, GemmBackend::wgmma);
  };
  // Prompts of Llama-7B. Gate and up of 512 rows: 344 items of 256 rows in three waves, not 688 of 128 in
  // six.
  CHECK(cut(512, 344, 64).tile_rows == 256);
  CHECK(cut(2048, 344, 64).tile_rows == 256);
  // q, k and v of 2048 rows: their two splits are added in a block; 1056 items of 192 rows are eight whole
  // waves.
  CHECK(cut(2048, 192, 64).tile_rows == 192);
  CHECK(cut(2048, 192, 64).sequential);
  // o of 512 rows: 128 items of 128 rows are nearly a wave. down has more inputs, so that 256 items of 256
  // rows, a fourth of a sum each, move fewer bytes in spite of the partial sums.
  CHECK(cut(512, 64, 64).tile_rows == 128);
  CHECK(cut(512, 64, 64).sequential);
  CHECK(cut(512, 64, 172).tile_rows == 256);
  CHECK(!cut(512, 64, 172).sequential);
  // Of 350 rows, two tiles of 192 rather than three of 128 or two of 256.
  CHECK(cut(350, 344, 64).tile_rows == 192);
  // Of 32 rows: o and down by 128 items, a fourth of a sum each.
  CHECK(!cut(32, 64, 172).sequential);
  CHECK(cut(32, 64, 172).blocks == 128);
}

TEST_CASE("cuBLASLt is used for long prompts in bf16, when it is requested and found") {
  const auto kernel = [](int32_t rows, GemmBackend backend, bool found, WeightFormat format) {
    return plan_gemm(rows, 64, 64, format, {132, 80, backend, found}).kernel;
  };
  using enum GemmBackend;
  for (const GemmBackend backend : {cublaslt, automatic}) {
    CHECK(kernel(kMinCublasLtRows, backend, true, WeightFormat::bf16) == GemmKernel::cublaslt);
    CHECK(kernel(kMinCublasLtRows - 1, backend, true, WeightFormat::bf16) == GemmKernel::mma);
    CHECK(kernel(kMinCublasLtRows, backend, false, WeightFormat::bf16) == GemmKernel::mma);
    CHECK(kernel(kMinCublasLtRows, backend, true, WeightFormat::int8) == GemmKernel::mma);
  }
  CHECK(kernel(kMinCublasLtRows, mma, true, WeightFormat::bf16) == GemmKernel::mma);
  CHECK(parse_gemm_backend("cublaslt") == cublaslt);
}

TEST_CASE("padded numbers of rows have few different values and stay below the maximum") {
  CHECK(padded_rows(0, 100) ==
        0);  // a step without logits has another shape than a step with one row of logits
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

TEST_CASE("the bytes of a KV block") {
  const OpsConfig llama_7b = {.num_layers = 32,
                              .num_heads = 32,
                              .num_kv_heads = 32,
                              .head_dim = 128,
                              .kv_format = KvFormat::bf16,
                              .num_blocks = 0,
                              .max_rows = 512,
                              .max_context = 4096};
  CHECK(kv_pool_bytes(llama_7b, 1) == uint64_t{512} * 1024 * kBlockTokens);
  // fp8 takes half the bytes, and 4 bytes of scales for the 256 elements of a token and head.
  OpsConfig fp8 = llama_7b;
  fp8.kv_format = KvFormat::fp8;
  CHECK(kv_pool_bytes(fp8, 1) == uint64_t{260} * 1024 * kBlockTokens);
}
