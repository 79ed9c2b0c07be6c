// The plan of the memory: that it matches what an engine takes, and how it sizes the KV pool.
#include <doctest/doctest.h>

#include <fstream>
#include <limits>
#include <sstream>

#include "common/error.h"
#include "core/decoder.h"
#include "engine/memory_plan.h"
#include "engine/step_size.h"
#include "ops/cpu/cpu_memory.h"
#include "test/random_model.h"

using namespace apar;
using namespace apar::test;

namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr int32_t kRows = 64, kBranches = 8;

// The host, as if it had this much free memory.
class LimitedHost final : public DeviceMemory {
 public:
  explicit LimitedHost(uint64_t free_bytes) : free_bytes_(free_bytes) {}

  FreeMemory free_memory() const override { return {free_bytes_, "the test"}; }
  bool is_host() const override { return true; }
  uint64_t linear_bytes(std::span<const Matrix> layers, WeightFormat format) const override {
    return host_.linear_bytes(layers, format);
  }
  uint64_t buffer_bytes(uint64_t count) const override { return host_.buffer_bytes(count); }
  uint64_t step_bytes(const OpsConfig& config) const override { return host_.step_bytes(config); }
  uint64_t pool_bytes(const OpsConfig& config) const override { return host_.pool_bytes(config); }

 private:
  uint64_t free_bytes_;
  cpu::CpuMemory host_{1};
};

ModelConfig medium_config() {
  ModelConfig config{.vocab_size = 8000,
                     .hidden_size = 512,
                     .intermediate_size = 1536,
                     .num_layers = 2,
                     .num_heads = 8,
                     .num_kv_heads = 8,
                     .context_tokens = 4096,
                     .rms_norm_eps = 1e-5f,
                     .tie_word_embeddings = true};
  set_head_dim(config, 64);
  return config;
}

MemoryPlan plan_with(uint64_t free_bytes, const PoolRequest& pool,
                     const ModelConfig& config = medium_config(), ModelFormat format = WeightFormat::bf16,
                     const WeightTable& weights = {}) {
  std::vector<std::unique_ptr<DeviceMemory>> devices;
  devices.push_back(std::make_unique<LimitedHost>(free_bytes));
  return plan_memory(devices, {config, weights, format, kRows, kBranches}, pool);
}

std::string refusal(uint64_t free_bytes, const PoolRequest& pool,
                    const ModelConfig& config = medium_config()) {
  try {
    plan_with(free_bytes, pool, config);
  } catch (const Error& error) {
    return std::string(to_string(error.code())) + ": " + error.what();
  }
  return "accepted";
}

// The resident memory of this process, or nullopt where the system does not tell it or a sanitizer's shadow
// memory would be counted.
std::optional<uint64_t> resident_bytes() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return std::nullopt;
#endif
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name;
    uint64_t value = 0;
    if (words >> name >> value && name == "VmRSS:") return value * 1024;
  }
  return std::nullopt;
}

// Fills the pool with prompts that have no prefix in common.
void fill_pool(Model& model, int32_t prompt_tokens) {
  Decoder decoder(model, {.tokens = {.fork = -1, .child = -1, .eos = {2}},
                          .max_step_tokens = kRows,
                          .max_branches = kBranches,
                          .watermark = 0});
  const int32_t prompts = model.num_blocks() * kBlockTokens / prompt_tokens;
  for (int32_t id = 1; id <= prompts; ++id) {
    RequestParams params;
    params.id = id;
    params.max_tokens = 1;
    for (int32_t i = 0; i < prompt_tokens - 1; ++i)
      params.prompt.push_back(3 + (id * 997 + i * (id + 1)) % (model.config().vocab_size - 3));
    decoder.submit(std::move(params));
  }
  std::vector<Event> events;
  while (decoder.step(events)) {
  }
  const DecoderStats stats = decoder.stats();
  CHECK(stats.cached_blocks > model.num_blocks() * 9 / 10);
}

}  // namespace

TEST_CASE("the plan matches the memory that the process takes") {
  const auto before_all = resident_bytes();
  if (!before_all) {
    MESSAGE("skipped: the resident memory of this process is not known");
    return;
  }
  ModelConfig wide = medium_config();
  wide.context_tokens = 1 << 20;  // the tables for long contexts are reserved, not used
  for (const auto& [config, stored, format] : {std::tuple{medium_config(), DType::f32, WeightFormat::f32},
                                               std::tuple{medium_config(), DType::bf16, WeightFormat::bf16},
                                               std::tuple{wide, DType::f32, WeightFormat::int8}}) {
    const RandomModel random = make_random_model(config, 1, stored);
    constexpr int32_t kBlocks = 256;
    const MemoryPlan plan = plan_with(uint64_t{8} << 30, {.min_blocks = kBlocks, .max_blocks = kBlocks},
                                      config, format, random.weights);
    const uint64_t before = *resident_bytes();
    const auto model = open_llama(config, random.weights, format, kBlocks, kRows, 1);
    fill_pool(*model, 1024);
    const auto taken = static_cast<double>(*resident_bytes() - before);
    const auto planned = static_cast<double>(plan.total_bytes());
    CAPTURE(to_string(format));
    CAPTURE(plan.weight_bytes);
    CAPTURE(plan.workspace_bytes);
    CAPTURE(plan.kv_bytes());
    // Above the plan: libraries' own memory and pages that are used in part.
    CHECK(taken < planned * 1.05 + 4.0 * kMiB);
    CHECK(taken > planned * 0.9 - 4.0 * kMiB);
  }
}

TEST_CASE("biases and head norms are counted") {
  const auto weights = [](const ModelConfig& config) {
    return plan_with(uint64_t{8} << 30, {.min_blocks = 1, .max_blocks = 8}, config).weight_bytes;
  };
  const uint64_t layer = 4 * 512 + 512 + 2 * 1536 + 2 * 64;  // q, k, v, o; down; gate, up; norms of q and k
  CHECK(weights(with_all_features(medium_config())) == weights(medium_config()) + 2 * layer * sizeof(float));
}

TEST_CASE("Medusa heads are counted, their buffers too, and shared weights once") {
  const auto plan = [](const MedusaConfig& medusa, const WeightTable& weights = {}) {
    ModelConfig config = medium_config();
    config.medusa = medusa;
    return plan_with(uint64_t{8} << 30, {.min_blocks = 1, .max_blocks = 8}, config, WeightFormat::bf16,
                     weights);
  };
  const MemoryPlan none = plan({});
  const auto weights = [&](const MemoryPlan& heads) { return heads.weight_bytes - none.weight_bytes; };
  constexpr uint64_t kHidden = 512, kVocab = 8000, kBlock = 2 * kHidden * kHidden, kBias = 4 * kHidden;
  CHECK(weights(plan({3, 1, true, 8000})) == 3 * (kBlock + kBias));
  // Rows that the heads do not have are zeros on the device.
  CHECK(weights(plan({2, 2, false, 7990})) == 2 * (2 * (kBlock + kBias) + 2 * kHidden * kVocab));
  WeightTable shared;
  for (const char* name : {"medusa.0.0.linear.weight", "medusa.0.1.linear.weight"})
    shared.tensors.push_back({name, 0, 64, DType::bf16, {512, 512}});
  CHECK(weights(plan({1, 2, true, 8000}, shared)) == kBlock + 2 * kBias);
  // 2 heads of 64 rows each: their logits, the inputs of the projections, those of the blocks, two per head.
  const uint64_t buffers = 4 * (2 * 64 * kVocab + (2 + 1 + 4) * 64 * kHidden);
  const uint64_t prepared = none.workspace_bytes;  // also grows, by the activations of 128 rows instead of 64
  CHECK(plan({2, 1, true, 8000}).workspace_bytes - prepared >= buffers);
  CHECK(plan({2, 1, true, 8000}).workspace_bytes - prepared < buffers + 64 * 1536 * 8);
}

TEST_CASE("a step has as many tokens as the operator says, or as suit the device") {
  CHECK(step_tokens(0, 64, true) == 512);
  CHECK(step_tokens(0, 64, false) == 2048);
  CHECK(step_tokens(0, 3000, false) == 3000);
  CHECK(step_tokens(0, 600, true) == 600);
  for (const bool on_host : {false, true}) {
    CHECK(step_tokens(16, 8, on_host) == 16);
    CHECK(step_tokens(4096, 64, on_host) == 4096);
  }
  const auto plan = [](int32_t max_rows) {
    std::vector<std::unique_ptr<DeviceMemory>> devices;
    devices.push_back(std::make_unique<LimitedHost>(uint64_t{8} << 30));
    const ModelConfig config = medium_config();
    const ModelMemory model = {config, {}, WeightFormat::bf16, max_rows, kBranches};
    return plan_memory(devices, model, {.min_blocks = 1, .max_blocks = 8});
  };
  CHECK(plan(0).max_step_tokens == 512);
  CHECK(plan(0).workspace_bytes == plan(512).workspace_bytes);
  CHECK(plan(100).max_step_tokens == 100);
  CHECK(plan(100).workspace_bytes < plan(512).workspace_bytes);
}

TEST_CASE("the rows with logits are samples, and candidates or rows of prompts") {
  CHECK(step_rows(2048, 64).max == 2048);
  CHECK(step_rows(2048, 64).max_with_logits == 512);
  CHECK(step_rows(2048, 1000).max_with_logits == 1064);
  CHECK(step_rows(1024, 1000).max_with_logits == 1024);
  CHECK(step_rows(16, 8).max_with_logits == 16);
}

TEST_CASE("the pool takes what is free, but not more than requests can use") {
  const auto bytes_of = [](const MemoryPlan& plan) { return plan.free.bytes - plan.kept_free_bytes; };
  const MemoryPlan limited = plan_with(700 * kMiB, {.min_blocks = 32, .max_blocks = 1 << 20});
  CHECK(limited.total_bytes() <= bytes_of(limited));
  const int32_t more = limited.num_blocks + 1;
  CHECK(refusal(700 * kMiB, {.min_blocks = more, .max_blocks = more}).starts_with("out_of_memory"));
  CHECK(limited.num_blocks > 1000);

  CHECK(plan_with(uint64_t{64} << 30, {.min_blocks = 32, .max_blocks = 4000}).num_blocks == 4000);
}

TEST_CASE("a tenth of the memory stays free, on the host at least 256 MiB, or what the operator asks for") {
  const auto kept = [](uint64_t free, double fraction, uint64_t reserved = 0) {
    const PoolRequest pool = {
        .min_blocks = 1, .max_blocks = 8, .fraction = fraction, .reserved_bytes = reserved * kMiB};
    return plan_with(free, pool).kept_free_bytes / kMiB;
  };
  CHECK(kept(10000 * kMiB, 0) == 1000);
  CHECK(kept(1000 * kMiB, 0) == 256);
  CHECK(kept(1000 * kMiB, 0.75) == 250);
  CHECK(kept(1000 * kMiB, 1) == 0);
  CHECK(kept(10000 * kMiB, 0, 70) == 1070);  // the process will need it
  CHECK(refusal(1000 * kMiB, {.reserved_bytes = ~uint64_t{0}}).starts_with("out_of_memory"));
  CHECK(refusal(1000 * kMiB, {.fraction = 1.5}).starts_with("invalid_config"));
  CHECK(refusal(1000 * kMiB, {.fraction = -1}).starts_with("invalid_config"));
}

TEST_CASE("a model that does not fit is refused with what it needs and what is available") {
  const std::string message = refusal(280 * kMiB, {.min_blocks = 32, .max_blocks = 64});
  CHECK(message.starts_with("out_of_memory: the model needs "));
  CHECK_MESSAGE(message.find("24 MiB are available") != std::string::npos, message);
  CHECK_MESSAGE(message.find("32 KV blocks") != std::string::npos, message);
  CHECK(refusal(0, {.min_blocks = 32, .max_blocks = 64}).find("0 MiB are available") != std::string::npos);
}

TEST_CASE("the refusal of a model has the plan that does not fit") {
  const PoolRequest pool = {.min_blocks = 32, .max_blocks = 32};
  const MemoryPlan wanted = plan_with(uint64_t{1} << 32, pool);
  try {
    plan_with(280 * kMiB, pool);
    FAIL("accepted");
  } catch (const DoesNotFit& refused) {
    CHECK(refused.plan().weight_bytes == wanted.weight_bytes);
    CHECK(refused.plan().total_bytes() == wanted.total_bytes());
    CHECK(refused.plan().free.bytes == 280 * kMiB);
  }
}

TEST_CASE("a KV cache of a given size gets as many blocks as it holds") {
  const uint64_t block = plan_with(uint64_t{1} << 32, {}).block_bytes;
  CHECK(block == uint64_t{2} * 2 * 512 * 2 * kBlockTokens);
  const PoolRequest pool = {.min_blocks = 32, .max_blocks = 64, .kv_bytes = 100 * block + 5};
  CHECK(plan_with(uint64_t{1} << 32, pool).num_blocks == 100);
  CHECK(refusal(290 * kMiB, pool).find("100 KV blocks") != std::string::npos);
  CHECK(refusal(uint64_t{1} << 32, {.min_blocks = 32, .max_blocks = 64, .kv_bytes = block})
            .find("32 (2 MiB) are needed") != std::string::npos);
}

TEST_CASE("an absurd context or shape is planned without overflow") {
  ModelConfig config = medium_config();
  config.context_tokens = std::numeric_limits<int32_t>::max();
  const PoolRequest pool = {.min_blocks = 32, .max_blocks = std::numeric_limits<int32_t>::max()};
  const MemoryPlan plan = plan_with(2000 * kMiB, pool, config);
  CHECK(plan.num_blocks > 32);
  CHECK(plan.total_bytes() <= 2000 * kMiB);
  // Tables and scores for the longest context are part of the workspace.
  CHECK(plan.workspace_bytes > static_cast<uint64_t>(plan.num_blocks) * kBlockTokens * (64 + 32) * 4);

  config.hidden_size = config.intermediate_size = config.vocab_size = std::numeric_limits<int32_t>::max();
  config.num_layers = 4096;
  CHECK(refusal(2000 * kMiB, pool, config).starts_with("out_of_memory: the model needs"));
}
