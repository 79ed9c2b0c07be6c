// Medusa heads against naive ones, and what the decoder's rules need of them: a row's bits are its own, and
// copied slots hold the same keys and values.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>

#include "common/error.h"
#include "model/llama.h"
#include "model/medusa_layout.h"
#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/top_tokens.h"
#include "ops/sharded/sharded_ops.h"
#include "test/draft_check.h"
#include "test/sequence_run.h"
#include "testing/local_communicator.h"

using namespace apar;
using namespace apar::test;

namespace {

constexpr int32_t kBlocks = 8, kRows = 40;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::unique_ptr<Model> open(const RandomModel& random, ModelFormat format, int32_t rows = kRows) {
  return open_llama(random.config, random.weights, format, kBlocks, rows, 2);
}

std::unique_ptr<Model> open_ranks(const RandomModel& random, ModelFormat format, int32_t ranks) {
  return open_llama(random.config, random.weights, format, kBlocks, kRows, [&](const OpsConfig& config) {
    const auto sums = std::make_shared<LocalAllReduce>(ranks);
    return std::make_unique<ShardedOps>(config, ranks, [=](const OpsConfig& mine, int32_t rank) {
      return Rank{std::make_unique<LocalCommunicator>(sums, rank),
                  std::make_unique<cpu::CpuOps>(mine, cpu::select_isa(), 1)};
    });
  });
}

// int8 and int4 with whole groups of 32 inputs, and with two ranks.
ModelConfig aligned() {
  ModelConfig config = small_config();
  config.hidden_size = 64;
  config.intermediate_size = 128;
  config.num_heads = 4;
  set_head_dim(config, 16);
  return config;
}

std::vector<int32_t> all_rows(const std::vector<int32_t>& text) {
  std::vector<int32_t> rows(text.size());
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

ErrorCode code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::closed;  // means that nothing was thrown
}

// Residual blocks of a head that are one module, as in published heads.
void tie_blocks(RandomModel& random) {
  for (TensorInfo& tensor : random.weights.tensors)
    for (const char* part : {"weight", "bias"})
      for (int32_t head = 0; head < random.config.medusa.num_heads; ++head) {
        const std::string name = "medusa." + std::to_string(head) + ".";
        if (tensor.name != name + "1.linear." + part) continue;
        for (const TensorInfo& first : random.weights.tensors)
          if (first.name == name + "0.linear." + part) tensor.offset = first.offset;
      }
}

}  // namespace

TEST_CASE("candidates are those of naive heads") {
  for (const bool shared : {false, true})
    for (const auto& [heads, layers] : {std::pair{2, 2}, {1, 1}, {5, 1}, {3, 3}, {8, 2}}) {
      CAPTURE(shared);
      CAPTURE(heads);
      for (const bool reads : {false, true}) {
        CAPTURE(reads);
        ModelConfig config = with_heads(small_config(), shared, heads, layers);
        config.medusa.reads_next_token = reads;
        const RandomModel random = make_random_model(config, 3);
        const auto model = open(random, WeightFormat::f32);
        CHECK(model->draft_heads() == heads);
        const std::vector<int32_t> text = random_tokens(5, 20, 61);
        SequenceRun{*model, {0, 1, 2}}.step(text);
        check_drafts(random, text, drafts_of(*model, all_rows(text), 7), 7, 1e-4);
      }
    }
}

TEST_CASE("heads without residual blocks, and biases and head norms of the decoder") {
  const ModelConfig plain = with_heads(with_all_features(small_config()), false, 2, 0);
  for (const ModelConfig& config : {plain, reading_next_token(plain)}) {
    const RandomModel random = make_random_model(config, 4);
    const auto model = open(random, WeightFormat::f32);
    const std::vector<int32_t> text = random_tokens(6, 9, 61);
    SequenceRun{*model, {3}}.step(text);
    check_drafts(random, text, drafts_of(*model, all_rows(text), 61), 61, 1e-4);
  }
}

// The logits of random weights lie within about 4 of each other. bf16 rounds inputs and weights by 2^-9, int8
// by 2^-8 of a group's largest, int4 by 2^-4 of it, in the decoder and in the heads.
TEST_CASE("heads have the format of the decoder's layers, whatever the checkpoint's type is") {
  for (const DType stored : {DType::f32, DType::bf16, DType::f16})
    for (const auto& [format, tolerance] : {std::pair{WeightFormat::f32, 1e-4},
                                            {WeightFormat::bf16, 0.15},
                                            {WeightFormat::int8, 0.3},
                                            {WeightFormat::int4, 4.0}})
      for (const bool shared : {false, true}) {
        CAPTURE(std::string(to_string(format)));
        const RandomModel random =
            make_random_model(reading_next_token(with_heads(aligned(), shared)), 7, stored);
        const auto model = open(random, format);
        const std::vector<int32_t> text = random_tokens(8, 12, 61);
        SequenceRun{*model, {1}}.step(text);
        check_drafts(random, text, drafts_of(*model, all_rows(text), 5), 5, tolerance);
      }
}

TEST_CASE("residual blocks that share their weights are held once") {
  RandomModel random = make_random_model(with_heads(aligned(), true), 9);
  tie_blocks(random);
  const auto model = open(random, WeightFormat::f32);
  const std::vector<int32_t> text = random_tokens(9, 10, 61);
  SequenceRun{*model, {1}}.step(text);
  check_drafts(random, text, drafts_of(*model, all_rows(text), 5), 5, 1e-4);
  const std::vector<LinearLayer> layers = medusa_layers(random.config);
  CHECK(shared_weights(layers, random.weights) == std::vector<size_t>{0, 0, 2, 2});
}

TEST_CASE("the cache of the decoder's layers does not depend on heads") {
  WeightTable table = make_random_model(small_config()).weights;
  table.files.push_back("/adapter/without/tensors");
  const WeightTable decoder = table;
  table.files.push_back("/medusa/heads");
  table.tensors.push_back({"medusa.0.0.linear.bias", 2, 0, DType::f32, {36}});
  CHECK(decoder_weights(table).files == decoder.files);
  CHECK(decoder_weights(table).tensors.size() == decoder.tensors.size());
  CHECK(decoder_weights(decoder).files == decoder.files);
}

TEST_CASE("tokens that the heads do not know are never candidates") {
  for (const bool shared : {false, true})
    for (const int32_t ranks : {1, 2})
      for (const int32_t missing : {21, 40}) {
        CAPTURE(shared);
        CAPTURE(ranks);
        CAPTURE(missing);
        const int32_t known = 61 - missing;
        const RandomModel random = make_random_model(with_heads(aligned(), shared, 2, 1, missing), 10);
        for (const auto& [format, tolerance] : {std::pair{WeightFormat::f32, 1e-4},
                                                {WeightFormat::bf16, 0.15},
                                                {WeightFormat::int8, 0.3},
                                                {WeightFormat::int4, 4.0}}) {
          CAPTURE(std::string(to_string(format)));
          const auto model = ranks == 1 ? open(random, format) : open_ranks(random, format, 2);
          const std::vector<int32_t> text = random_tokens(10, 10, 61);
          SequenceRun{*model, {1}}.step(text);
          check_drafts(random, text, drafts_of(*model, all_rows(text), known), known, tolerance);
          const std::vector<DraftCandidate> more = drafts_of(*model, {0}, known + 5);
          for (size_t i = 0; i < 5; ++i)
            CHECK(more[static_cast<size_t>(known) + i] == DraftCandidate{-1, -kInfinity});
        }
      }
}

TEST_CASE("a row's candidates have the same bits in every call, also in several passes") {
  for (const WeightFormat format :
       {WeightFormat::f32, WeightFormat::bf16, WeightFormat::int8, WeightFormat::int4}) {
    const ModelConfig config = with_heads(aligned(), format == WeightFormat::int8);
    const RandomModel random = make_random_model(reading_next_token(config), 11);
    const auto model = open(random, format, 100);
    const std::vector<int32_t> text = random_tokens(11, 100, 61);
    SequenceRun{*model, {0, 1, 2, 3, 4, 5, 6}}.step(text);
    const std::vector<DraftCandidate> all = drafts_of(*model, all_rows(text), 6);
    for (const std::vector<int32_t>& rows :
         {std::vector<int32_t>{17}, {99, 3}, {50, 50, 50}, {1, 2, 3, 5, 8, 13, 21, 34, 55, 89}}) {
      const std::vector<DraftCandidate> some = drafts_of(*model, rows, 6);
      for (size_t i = 0; i < rows.size(); ++i)
        CHECK(std::memcmp(&some[i * 12], &all[static_cast<size_t>(rows[i]) * 12],
                          12 * sizeof(DraftCandidate)) == 0);
    }
  }
}

TEST_CASE("several ranks draft what one device drafts") {
  for (const bool shared : {false, true}) {
    const RandomModel random = make_random_model(reading_next_token(with_heads(aligned(), shared)), 12);
    const auto one = open(random, WeightFormat::f32), two = open_ranks(random, WeightFormat::f32, 2);
    const std::vector<int32_t> text = random_tokens(12, 30, 61);
    SequenceRun{*one, {1, 2}}.step(text);
    SequenceRun{*two, {1, 2}}.step(text);
    const auto want = drafts_of(*one, {4, 29, 11}, 61), got = drafts_of(*two, {4, 29, 11}, 61);
    check_drafts(random, text, drafts_of(*two, all_rows(text), 8), 8, 1e-4);
    for (size_t i = 0; i < want.size(); ++i) REQUIRE(std::abs(want[i].logprob - got[i].logprob) < 1e-4);
  }
}

TEST_CASE("the largest logits come first, equal ones by ascending token; only finite ones are candidates") {
  for (const cpu::Isa isa : {cpu::Isa::reference, cpu::select_isa()}) {
    const auto top = [&](std::vector<float> logits, size_t count) {
      std::vector<TokenLogit> best(count);
      const auto size = static_cast<int64_t>(logits.size());
      logits.resize(logits.size() + 16, 1e9f);  // must not be read
      const float log_sum = cpu::top_tokens(cpu::kernels(isa), logits.data(), size, best);
      std::vector<int32_t> tokens;
      for (const TokenLogit& each : best) tokens.push_back(each.token);
      return std::pair{tokens, log_sum};
    };
    std::vector<float> ties(40, 1.0f);
    ties[33] = ties[7] = 2.0f;
    CHECK(top(ties, 5).first == std::vector<int32_t>{7, 33, 0, 1, 2});
    CHECK(top(ties, 5).second == doctest::Approx(std::log(38 * std::exp(1.0) + 2 * std::exp(2.0))));
    CHECK(top({-kInfinity, 3, -kInfinity}, 3).first == std::vector<int32_t>{1, -1, -1});
    CHECK(top({-kInfinity, 3, -kInfinity}, 3).second == doctest::Approx(3));
    std::vector<float> late(35, -kInfinity);
    late[34] = -5;
    CHECK(top(late, 2).first == std::vector<int32_t>{34, -1});
    CHECK(top(late, 2).second == doctest::Approx(-5));
    CHECK(top({}, 1).first == std::vector<int32_t>{-1});
    for (const float wrong : {kInfinity, std::nanf("")})
      for (const size_t at : {3, 20}) {
        std::vector<float> logits(21, 0.5f);
        logits[at] = wrong;
        CHECK(std::isnan(top(logits, 2).second));
      }
  }
}

TEST_CASE("a head whose logits are no numbers gives no candidates") {
  const RandomModel random = make_random_model(with_heads(small_config(), false, 2, 1), 13);
  for (const TensorInfo& tensor : random.weights.tensors)
    if (tensor.name == "medusa.0.1.weight") {
      std::fstream file(random.weights.files.front(), std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(static_cast<std::streamoff>(tensor.offset));
      const float nan = std::nanf("");
      file.write(reinterpret_cast<const char*>(&nan), sizeof nan);
    }
  const auto model = open(random, WeightFormat::f32);
  SequenceRun{*model, {1}}.step({1, 2, 3});
  const std::vector<DraftCandidate> got = drafts_of(*model, {0, 2}, 3);
  for (size_t i = 0; i < got.size(); ++i) {
    const bool first_head = i / 3 % 2 == 0;
    CHECK((got[i] == DraftCandidate{-1, -kInfinity}) == first_head);
  }
}

TEST_CASE("wrong arguments are refused") {
  const RandomModel random = make_random_model(with_heads(small_config(), true), 14);
  const auto model = open(random, WeightFormat::f32);
  std::vector<DraftCandidate> out(2 * 3);
  const auto draft = [&](const std::vector<int32_t>& rows, int32_t top_k) {
    std::vector<DraftRow> of;
    for (const int32_t row : rows) of.push_back({row, 60});
    return code_of([&] { model->draft(of, top_k, out); });
  };
  CHECK(draft({0}, 3) == ErrorCode::internal);  // no step yet
  SequenceRun{*model, {1}}.step({1, 2});
  CHECK(draft({1}, 3) == ErrorCode::closed);
  CHECK(draft({2}, 3) == ErrorCode::internal);
  CHECK(draft({-1}, 3) == ErrorCode::internal);
  CHECK(draft({0}, 0) == ErrorCode::internal);
  CHECK(draft({0, 1}, 3) == ErrorCode::internal);
  for (const int32_t token : {-1, 61}) {
    const DraftRow row = {0, token};
    CHECK(code_of([&] { model->draft({&row, 1}, 3, out); }) == ErrorCode::internal);
  }
  const auto copy = [&](SlotCopy one) { return code_of([&] { model->copy_slots({&one, 1}); }); };
  CHECK(copy({0, kBlocks * kBlockTokens - 1}) == ErrorCode::closed);
  CHECK(copy({0, kBlocks * kBlockTokens}) == ErrorCode::internal);
  CHECK(copy({-1, 0}) == ErrorCode::internal);
  const auto refused = [&](MedusaConfig medusa) {
    ModelConfig config = small_config();
    config.medusa = medusa;
    return code_of([&] { config.validate(); });
  };
  CHECK(refused({2, 1, false, 61}) == ErrorCode::closed);
  CHECK(refused({2, 1, false, 62}) == ErrorCode::invalid_config);
  CHECK(refused({9, 1, false, 61}) == ErrorCode::invalid_config);
  CHECK(refused({2, 0, true, 61}) == ErrorCode::invalid_config);
  CHECK(refused({-1, 1, true, 61}) == ErrorCode::invalid_config);
  RandomModel missing = make_random_model(with_heads(small_config(), false), 14);
  std::erase_if(missing.weights.tensors,
                [](const TensorInfo& each) { return each.name == "medusa.1.2.weight"; });
  CHECK(code_of([&] { open(missing, WeightFormat::f32); }) == ErrorCode::invalid_weights);
}

// The text goes on from the copied slots with the same bits as from the ones that were computed, in all
// layers; slots that were read are overwritten by later copies.
TEST_CASE("copied slots hold the same keys and values") {
  for (const int32_t ranks : {1, 2})
    for (const WeightFormat format : {WeightFormat::f32, WeightFormat::bf16}) {
      const RandomModel random = make_random_model(with_all_features(aligned()), 15);
      const auto model = ranks == 1 ? open(random, format) : open_ranks(random, format, ranks);
      const std::vector<int32_t> text = random_tokens(15, 20, 61), more = random_tokens(16, 12, 61);
      SequenceRun plain{*model, {2, 5}};
      plain.step(text);
      const std::vector<float> want = plain.step(more);
      SequenceRun first{*model, {2, 5}};
      first.step(text);
      // From blocks 2, 5 to blocks 4, 2: token by token, block 2 is written after it was read.
      std::vector<SlotCopy> copies;
      for (int32_t i = 0; i < 16; ++i) copies.push_back({2 * 16 + i, 4 * 16 + i});
      for (int32_t i = 0; i < 4; ++i) copies.push_back({5 * 16 + i, 2 * 16 + i});
      model->copy_slots(copies);
      SequenceRun second{*model, {4, 2}, 20};
      const std::vector<float> got = second.step(more);
      CHECK(std::memcmp(got.data(), want.data(), got.size() * sizeof(float)) == 0);
    }
}
