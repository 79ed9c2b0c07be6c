// Inputs that open_llama and forward refuse.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "common/error.h"
#include "core/decoder.h"
#include "model/llama.h"
#include "ops/cpu/cpu_ops.h"
#include "test/random_model.h"

using namespace apar;
using namespace apar::test;

namespace {

void check_config(const char* field, const std::function<void(ModelConfig&)>& change) {
  CAPTURE(field);
  ModelConfig config = small_config();
  change(config);
  try {
    config.validate();
    FAIL_CHECK("accepted");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::invalid_config);
    CHECK_MESSAGE(std::string(error.what()).find(field) != std::string::npos, error.what());
  }
}

ErrorCode code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::closed;  // means that nothing was thrown
}

// A valid batch with two rows of one sequence; each case makes one field invalid.
struct Batch {
  std::vector<int32_t> tokens = {5, 6}, positions = {0, 1}, slots = {32, 33}, blocks = {2}, path = {0},
                       logit_rows = {1};
  std::vector<SequenceRows> sequences = {{0, 2, 0, 1, 2}};
  KvNodeView node = {{}, 0, 2};
  std::vector<float> logits = std::vector<float>(61);

  void run(Model& model) {
    node.blocks = blocks;
    model.forward({tokens, positions, slots, sequences, {&node, 1}, path, logit_rows}, logits);
  }
};

}  // namespace

TEST_CASE("an invalid model configuration is refused and the error names the field") {
  small_config().validate();
  check_config("vocab_size", [](ModelConfig& c) { c.vocab_size = 0; });
  check_config("hidden_size", [](ModelConfig& c) { c.hidden_size = -1; });
  check_config("intermediate_size", [](ModelConfig& c) { c.intermediate_size = 0; });
  check_config("num_layers", [](ModelConfig& c) { c.num_layers = 0; });
  check_config("num_heads", [](ModelConfig& c) { c.num_heads = 0; });
  check_config("num_kv_heads", [](ModelConfig& c) { c.num_kv_heads = 4; });
  check_config("head_dim", [](ModelConfig& c) { c.head_dim = 9; });
  check_config("head_dim", [](ModelConfig& c) { c.head_dim = 1 << 30; });
  check_config("context_tokens", [](ModelConfig& c) { c.context_tokens = 0; });
  check_config("rms_norm_eps", [](ModelConfig& c) { c.rms_norm_eps = std::nanf(""); });
  check_config("rope_frequencies", [](ModelConfig& c) { c.rope_frequencies.clear(); });
  check_config("rope_frequencies", [](ModelConfig& c) { c.rope_frequencies.push_back(0.5f); });
  check_config("rope_frequencies", [](ModelConfig& c) { c.rope_frequencies[1] = -0.5f; });
  check_config("rope_frequencies", [](ModelConfig& c) { c.rope_frequencies[4] = std::nanf(""); });
  check_config("rope_scale", [](ModelConfig& c) { c.rope_scale = std::numeric_limits<float>::infinity(); });
  check_config("rope_scale", [](ModelConfig& c) { c.rope_scale = 0; });
  check_config("layers_without_rope", [](ModelConfig& c) { c.layers_without_rope = {0, 2}; });
  check_config("layers_without_rope", [](ModelConfig& c) { c.layers_without_rope = {-1}; });
  with_all_features(small_config()).validate();
}

TEST_CASE("open refuses numbers of blocks, rows and threads out of range, and an unsupported KV cache") {
  const RandomModel random = make_random_model();
  const auto open = [&](ModelFormat format, int32_t blocks, int32_t rows, int32_t threads) {
    return code_of([&] { open_llama(random.config, random.weights, format, blocks, rows, threads); });
  };
  CHECK(open(WeightFormat::f32, 4, 4, 1) == ErrorCode::closed);
  CHECK(open(WeightFormat::f32, 0, 4, 1) == ErrorCode::invalid_config);
  CHECK(open(WeightFormat::f32, 1 << 28, 4, 1) == ErrorCode::invalid_config);
  CHECK(open(WeightFormat::f32, 4, 0, 1) == ErrorCode::invalid_config);
  CHECK(open(WeightFormat::f32, 4, 4, 0) == ErrorCode::invalid_config);
  CHECK(open(WeightFormat::f32, 4, 4, 257) == ErrorCode::invalid_config);
  CHECK(open({WeightFormat::bf16, KvFormat::fp8}, 4, 4, 1) == ErrorCode::unavailable);
  CHECK(open({WeightFormat::bf16, KvFormat::fp8}, (1 << 27) - 1, 4, 1) == ErrorCode::unavailable);
}

TEST_CASE("names of KV cache formats") {
  CHECK(parse_model_format(WeightFormat::f32, "auto").kv == KvFormat::f32);
  CHECK(parse_model_format(WeightFormat::int8, "auto").kv == KvFormat::bf16);
  for (const WeightFormat weights : {WeightFormat::f32, WeightFormat::bf16, WeightFormat::fp8}) {
    CHECK(parse_model_format(weights, "fp8").weights == weights);
    CHECK(parse_model_format(weights, "fp8").kv == KvFormat::fp8);
  }
  CHECK(code_of([] { parse_model_format(WeightFormat::f32, "fp4"); }) == ErrorCode::invalid_config);
}

TEST_CASE("loading reports its progress, also when quantised layers come from the cache file") {
  const RandomModel random = make_random_model();
  const ModelConfig& c = random.config;
  const uint64_t q = c.num_heads * c.head_dim, kv = c.kv_width(), hidden = c.hidden_size;
  const uint64_t layer = 2 * hidden * (q + kv) + 3 * hidden * c.intermediate_size;
  const uint64_t bytes = 4 * (c.num_layers * layer + 2 * hidden * c.vocab_size);
  for (const WeightFormat format : {WeightFormat::f32, WeightFormat::int8, WeightFormat::int8}) {
    std::vector<uint64_t> done;
    open_llama(
        c, random.weights, format, 4, 4,
        [](const OpsConfig& config) { return std::make_unique<cpu::CpuOps>(config, cpu::select_isa(), 1); },
        [&](uint64_t done_bytes, uint64_t total_bytes) {
          CHECK(total_bytes == bytes);
          done.push_back(done_bytes);
        });
    CHECK(std::is_sorted(done.begin(), done.end()));
    REQUIRE(done.size() > 10);
    CHECK(done.front() < bytes / 3);
    CHECK(done.back() == bytes);
  }
}

TEST_CASE("a KV pool that is too large gives out_of_memory, also when its size overflows") {
  ModelConfig config = small_config();
  config.num_layers = 1;
  const auto open = [&](int32_t head_dim, int32_t kv_heads) {
    config.head_dim = head_dim;
    config.num_heads = config.num_kv_heads = kv_heads;
    // The pool is allocated before the weights are read, so no weights are needed.
    return code_of([&] { open_llama(config, {}, WeightFormat::f32, (1 << 27) - 1, 1, 1); });
  };
  CHECK(open(1 << 16, 1 << 14) == ErrorCode::out_of_memory);
  CHECK(open(1 << 12, 1 << 8) == ErrorCode::out_of_memory);
}

TEST_CASE("forward refuses a batch that would read or write out of bounds") {
  const RandomModel random = make_random_model();
  const auto model = open_llama(random.config, random.weights, WeightFormat::f32, 4, 4, 1);
  const auto code_after = [&](const std::function<void(Batch&)>& change) {
    Batch batch;
    change(batch);
    return code_of([&] { batch.run(*model); });
  };
  CHECK(code_after([](Batch&) {}) == ErrorCode::closed);
  CHECK(code_after([](Batch& b) {
          b.logit_rows = {};
          b.logits = {};
        }) == ErrorCode::closed);
  const std::function<void(Batch&)> mistakes[] = {
      [](Batch& b) { b.tokens[0] = 61; },
      [](Batch& b) { b.tokens[1] = -1; },
      [](Batch& b) { b.positions[1] = 2; },
      [](Batch& b) { b.positions.pop_back(); },
      [](Batch& b) { b.slots[0] = 64; },
      [](Batch& b) { b.slots[0] = -1; },
      [](Batch& b) { b.blocks[0] = 4; },
      [](Batch& b) { b.blocks[0] = -1; },
      [](Batch& b) { b.blocks.clear(); },
      [](Batch& b) { b.node.first_offset = 15; },
      [](Batch& b) { b.node.first_offset = 16; },
      [](Batch& b) { b.node.num_tokens = -1; },
      [](Batch& b) { b.node.num_tokens = 1; },
      [](Batch& b) { b.path[0] = 1; },
      [](Batch& b) { b.sequences[0].path_begin = 1; },
      [](Batch& b) { b.sequences[0].path_length = 0; },
      [](Batch& b) { b.sequences[0].num_rows = 1; },
      [](Batch& b) { b.sequences[0].num_rows = 3; },
      [](Batch& b) { b.sequences[0].first_row = 1; },
      [](Batch& b) { b.sequences[0].context_length = 3; },
      [](Batch& b) { b.sequences.clear(); },
      [](Batch& b) { b.logit_rows = {2}; },
      [](Batch& b) {
        b.logit_rows = {1, 0};
      },
      [](Batch& b) { b.logits.pop_back(); },
      [](Batch& b) { b.tokens = {}; },
  };
  int index = 0;
  for (const auto& mistake : mistakes) {
    CAPTURE(index++);
    CHECK(code_after(mistake) == ErrorCode::internal);
  }
}

TEST_CASE("forward refuses more logit rows than the model was opened for") {
  const RandomModel random = make_random_model();
  const auto open = [&](StepRows rows) {
    return open_llama(random.config, random.weights, WeightFormat::f32, 4, rows, 1);
  };
  const auto model = open({4, 1});
  CHECK(model->max_rows() == 4);
  CHECK(model->max_logit_rows() == 1);
  const auto code_with = [&](const std::vector<int32_t>& logit_rows) {
    Batch batch;
    batch.logit_rows = logit_rows;
    batch.logits.resize(logit_rows.size() * static_cast<size_t>(random.config.vocab_size));
    return code_of([&] { batch.run(*model); });
  };
  CHECK(code_with({1}) == ErrorCode::closed);
  CHECK(code_with({0, 1}) == ErrorCode::internal);
  CHECK(code_of([&] { open({4, 5}); }) == ErrorCode::invalid_config);
  CHECK(code_of([&] { open({4, 0}); }) == ErrorCode::invalid_config);
  DecoderConfig config = {.tokens = {-1, -1, {1}}, .max_step_tokens = 4, .max_branches = 2};
  CHECK(code_of([&] { Decoder(*model, config); }) == ErrorCode::invalid_config);
}
