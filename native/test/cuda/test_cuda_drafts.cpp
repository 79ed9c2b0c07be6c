// The operations of draft heads on the device: rows that are picked, residual blocks, the largest logits, and
// slots of the KV pool that are copied; then heads against those of the CPU.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "model/llama.h"
#include "ops/cpu/top_tokens.h"
#include "ops/cuda/cuda_rank.h"
#include "ops/cuda/elementwise/copy_slots.h"
#include "ops/cuda/elementwise/drafts.h"
#include "ops/sharded/sharded_ops.h"
#include "test/cuda/cuda_model.h"
#include "test/cuda/device_array.h"
#include "test/cuda/either_order.h"
#include "test/draft_check.h"
#include "test/sequence_run.h"

using namespace apar;
using namespace apar::test;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<int32_t> all_rows(const std::vector<int32_t>& text) {
  std::vector<int32_t> rows(text.size());
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

ModelConfig tiny() {
  return tensor_core_config(
      {.hidden_size = 40, .intermediate_size = 48, .num_layers = 2, .num_heads = 2, .num_kv_heads = 2});
}

std::unique_ptr<Model> open_ranks(const RandomModel& random, ModelFormat format, int32_t ranks) {
  std::vector<int32_t> devices(static_cast<size_t>(ranks));
  std::iota(devices.begin(), devices.end(), 0);
  return open_llama(random.config, random.weights, format, 8, 24, [&](const OpsConfig& config) {
    const auto group = std::make_shared<cuda::NcclGroup>(cuda::test_nccl(), devices);
    return std::make_unique<ShardedOps>(config, ranks, [&](const OpsConfig& part, int32_t rank) {
      return cuda::make_cuda_rank(part, rank, cuda::open_test_device(rank), group);
    });
  });
}

}  // namespace

TEST_CASE("picked rows and embeddings, sums and residual blocks") {
  std::mt19937 random(1);
  const auto device = cuda::open_test_device();
  const std::vector<int32_t> ids = {4, 0, 4, 2};
  for (const int32_t width : {1, 37, 300}) {
    const std::vector<float> x = random_floats(random, static_cast<size_t>(5) * width, 9);
    const DeviceArray<float> from(*device, x), picked(*device, ids.size() * width + 3);
    const DeviceArray<int32_t> row_ids(*device, ids);
    const DeviceArray<uint16_t> picked_bf16(*device, ids.size() * width);
    cuda::pick_rows(device->stream(), row_ids.data(), 4, width, from.data(), picked.data(),
                    picked_bf16.data());
    const std::vector<float> got = picked.get();
    const std::vector<uint16_t> rounded = picked_bf16.get();
    for (size_t i = 0; i < rounded.size(); ++i) {
      const float want = x[static_cast<size_t>(ids[i / width]) * width + i % width];
      REQUIRE(got[i] == want);
      REQUIRE(rounded[i] == f32_to_bf16(want));
    }
    for (size_t i = rounded.size(); i < got.size(); ++i) REQUIRE(std::isnan(got[i]));

    for (const DType dtype : {DType::f32, DType::bf16}) {
      std::vector<uint16_t> narrow(x.size());
      std::ranges::transform(x, narrow.begin(), f32_to_bf16);
      const DeviceArray<uint16_t> narrow_table(*device, narrow);
      const void* const data =
          dtype == DType::f32 ? static_cast<const void*>(from.data()) : narrow_table.data();
      cuda::pick_embeddings(device->stream(), row_ids.data(), 4, {data, dtype, 5, width}, picked.data(),
                            picked_bf16.data());
      const std::vector<float> embedded = picked.get();
      for (size_t i = 0; i < rounded.size(); ++i) {
        const float want = dtype == DType::f32 ? got[i] : bf16_to_f32(rounded[i]);
        REQUIRE(embedded[i] == want);
        REQUIRE(picked_bf16.get()[i] == rounded[i]);
      }
    }

    const std::vector<float> y = random_floats(random, x.size(), 9);
    const DeviceArray<float> added(*device, y), sum(*device, x.size() + 3);
    const DeviceArray<uint16_t> sum_bf16(*device, x.size());
    cuda::add(device->stream(), static_cast<int64_t>(x.size()), from.data(), added.data(), sum.data(),
              sum_bf16.data());
    for (size_t i = 0; i < x.size(); ++i) {
      REQUIRE(sum.get()[i] == x[i] + y[i]);
      REQUIRE(sum_bf16.get()[i] == f32_to_bf16(x[i] + y[i]));
    }
    cuda::add_silu(device->stream(), static_cast<int64_t>(x.size()), from.data(), added.data(), sum.data(),
                   sum_bf16.data());
    const std::vector<float> sums = sum.get();
    for (size_t i = 0; i < x.size(); ++i) {
      REQUIRE(sums[i] == doctest::Approx(x[i] + y[i] / (1 + std::exp(-double{y[i]}))).epsilon(1e-5));
      REQUIRE(sum_bf16.get()[i] == f32_to_bf16(sums[i]));
    }
    for (size_t i = x.size(); i < sums.size(); ++i) REQUIRE(std::isnan(sums[i]));
  }
}

TEST_CASE("the largest logits and their sums are those of the host, with ties and without numbers") {
  std::mt19937 random(2);
  const auto device = cuda::open_test_device();
  struct Shape {
    int32_t stride, count, top_k;
  };
  for (const Shape& shape :
       {Shape{1, 1, 1}, {61, 61, 5}, {61, 40, 64}, {700, 700, 10}, {3000, 2999, 33}, {50, 0, 3}}) {
    constexpr int32_t kRows = 5;
    const int32_t stride = shape.stride, count = shape.count, top_k = shape.top_k;
    std::vector<float> logits = random_floats(random, static_cast<size_t>(kRows) * stride, 6);
    // Row 1 has few different values, row 2 one finite one, row 3 a NaN, row 4 an infinite one.
    for (int32_t i = 0; i < stride; ++i) {
      logits[stride + i] = std::round(logits[stride + i]);
      logits[2 * stride + i] = i == stride / 3 ? 1.5f : -kInfinity;
    }
    logits[3 * stride + stride / 2] = std::nanf("");
    logits[4 * stride + stride / 2] = kInfinity;
    const DeviceArray<float> from(*device, logits);
    const DeviceArray<int32_t> top_tokens(*device, static_cast<size_t>(kRows * top_k));
    const DeviceArray<float> top_logits(*device, static_cast<size_t>(kRows * top_k));
    const DeviceArray<float> sums(*device, kRows);
    std::vector<float> log_sums;
    const auto tokens = in_either_order([&] {
      cuda::top_tokens(device->stream(), from.data(), kRows,
                       {stride, count, top_k, top_tokens.data(), top_logits.data(), sums.data()});
      log_sums = sums.get();
      const std::vector<int32_t> ids = top_tokens.get();
      const std::vector<float> values = top_logits.get();
      std::vector<std::pair<int32_t, float>> found;
      for (size_t i = 0; i < ids.size(); ++i) found.emplace_back(ids[i], values[i]);
      return found;
    });
    for (int32_t row = 0; row < kRows; ++row) {
      CAPTURE(stride);
      CAPTURE(row);
      std::vector<TokenLogit> want(static_cast<size_t>(top_k));
      std::vector<float> copy(logits.begin() + row * stride, logits.begin() + (row + 1) * stride);
      const float sum = cpu::top_tokens(cpu::kernels(cpu::Isa::reference), copy.data(), count, want);
      REQUIRE(std::isnan(log_sums[row]) == std::isnan(sum));
      if (std::isnan(sum)) continue;
      REQUIRE(
          (log_sums[row] == sum || std::abs(log_sums[row] - sum) < 1e-5f * std::max(1.0f, std::abs(sum))));
      for (int32_t i = 0; i < top_k; ++i)
        REQUIRE(tokens[static_cast<size_t>(row * top_k + i)] == std::pair{want[i].token, want[i].logit});
    }
  }
}

TEST_CASE("slots are copied in order, in all layers and heads, and nothing else changes") {
  std::mt19937 random(3);
  const auto device = cuda::open_test_device();
  constexpr int32_t kLayers = 2, kBlocks = 4, kHeads = 3;
  const std::vector<SlotCopy> copies = {{5, 60}, {40, 5}, {17, 40}, {63, 0}};
  const DeviceArray<SlotCopy> copies_device(*device, copies);
  for (const int32_t bytes : {2, 4, 10, 20, 48, 128, 4096}) {  // also of more units than threads
    const size_t total = static_cast<size_t>(kLayers) * kBlocks * kHeads * kBlockTokens * bytes;
    std::vector<uint8_t> pool(total);
    for (uint8_t& byte : pool) byte = static_cast<uint8_t>(random());
    DeviceArray<uint8_t> on_device(*device, total);
    const std::vector<uint8_t> got = in_either_order([&] {
      on_device.set(pool);
      cuda::copy_slots(device->stream(), copies_device.data(), static_cast<int32_t>(copies.size()),
                       {on_device.data(), kLayers, kBlocks, kHeads, bytes});
      return on_device.get();
    });
    std::vector<uint8_t> want = pool;
    for (const auto& [from, to] : copies)
      for (int32_t layer = 0; layer < kLayers; ++layer)
        for (int32_t head = 0; head < kHeads; ++head) {
          const auto at = [&](int32_t slot) {
            const int32_t block = layer * kBlocks + slot / kBlockTokens;
            return want.begin() + ((block * kHeads + head) * kBlockTokens + slot % kBlockTokens) * bytes;
          };
          std::copy_n(at(from), bytes, at(to));
        }
    CHECK(got == want);
  }
}

TEST_CASE("heads on the device draft what naive heads draft, on one device and on two") {
  for (const bool shared : {false, true})
    for (const auto& [format, tolerance] :
         {std::pair{WeightFormat::f32, 1e-4}, {WeightFormat::bf16, 0.15}, {WeightFormat::int8, 0.3}})
      for (int32_t ranks = 1; ranks <= std::min(2, cuda::num_test_devices()); ++ranks) {
        if (ranks == 2 && format == WeightFormat::int8) continue;  // 20 inputs of a rank are no whole groups
        CAPTURE(std::string(to_string(format)));
        CAPTURE(ranks);
        ModelConfig config = with_heads(tiny(), shared, 2, 2, 5);
        config.medusa.reads_next_token = shared;
        const RandomModel random = make_random_model(config, 4);
        const auto model = ranks == 1 ? open_cuda(random, format, 8, 24) : open_ranks(random, format, ranks);
        const std::vector<int32_t> text = random_tokens(4, 20, 61);
        SequenceRun{*model, {1, 2}}.step(text);
        check_drafts(random, text, drafts_of(*model, all_rows(text), 6), 6, tolerance);
      }
}

TEST_CASE("a row's candidates have the same bits in every call, and steps go on after drafts") {
  const RandomModel random = make_random_model(reading_next_token(with_heads(tiny(), true, 2, 1)), 5);
  const auto model = open_cuda(random, WeightFormat::bf16, 8, 24),
             other = open_cuda(random, WeightFormat::bf16, 8, 24);
  const std::vector<int32_t> text = random_tokens(5, 22, 61);
  SequenceRun drafted{*model, {1, 2, 3}}, plain{*other, {1, 2, 3}};
  drafted.step(text);
  plain.step(text);
  const std::vector<DraftCandidate> all = drafts_of(*model, all_rows(text), 4);
  for (const std::vector<int32_t>& rows : {std::vector<int32_t>{17}, {21, 3}, {9, 9, 9, 1, 0}}) {
    const std::vector<DraftCandidate> some = drafts_of(*model, rows, 4);
    for (size_t i = 0; i < rows.size(); ++i)
      CHECK(std::memcmp(&some[i * 8], &all[static_cast<size_t>(rows[i]) * 8], 8 * sizeof(DraftCandidate)) ==
            0);
  }
  // Single tokens: the second of these steps is captured as a graph, the others replay it.
  for (int32_t i = 0; i < 5; ++i) {
    CHECK(drafted.step({i}) == plain.step({i}));
    drafts_of(*model, {0}, 2);
  }
}

TEST_CASE("copied slots hold the same keys and values in every format of the cache") {
  for (const KvFormat kv : {KvFormat::f32, KvFormat::bf16, KvFormat::fp8}) {
    CAPTURE(std::string(to_string(kv)));
    const RandomModel random = make_random_model(tiny(), 6);
    const ModelFormat format = {kv == KvFormat::f32 ? WeightFormat::f32 : WeightFormat::bf16, kv};
    const auto model = open_cuda(random, format, 8, 24);
    const std::vector<int32_t> text = random_tokens(7, 20, 61), more = random_tokens(8, 5, 61);
    SequenceRun plain{*model, {2, 5}};
    plain.step(text);
    const std::vector<float> want = plain.step(more);
    SequenceRun{*model, {2, 5}}.step(text);
    std::vector<SlotCopy> copies;
    for (int32_t i = 0; i < 16; ++i) copies.push_back({2 * 16 + i, 4 * 16 + i});
    for (int32_t i = 0; i < 4; ++i) copies.push_back({5 * 16 + i, 2 * 16 + i});
    model->copy_slots(copies);
    CHECK(SequenceRun{*model, {4, 2}, 20}.step(more) == want);
  }
}
