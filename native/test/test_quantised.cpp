// int8 and int4: the error of the logits relative to f32, and the cache file with the packed weights.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "model/llama.h"
#include "ops/cpu/cpu_ops.h"
#include "test/random_model.h"

using namespace apar;
using namespace apar::test;
namespace fs = std::filesystem;

namespace {

constexpr int32_t kTokens = 40;

std::unique_ptr<Model> open_on(cpu::Isa isa, const RandomModel& random, WeightFormat format) {
  return open_llama(random.config, random.weights, format, 8, kTokens,
                    [=](const OpsConfig& config) { return std::make_unique<cpu::CpuOps>(config, isa, 2); });
}

// The logits after every token of one fixed text.
std::vector<float> logits_of(Model& model) {
  const int32_t vocab = model.config().vocab_size;
  std::vector<int32_t> tokens(kTokens), all(kTokens), blocks = {5, 1, 3};
  std::iota(all.begin(), all.end(), 0);
  std::vector<int32_t> slots;
  for (const int32_t i : all) {
    tokens[i] = i * 29 % vocab;
    slots.push_back(blocks[i / kBlockTokens] * kBlockTokens + i % kBlockTokens);
  }
  const KvNodeView node = {blocks, 0, kTokens};
  const SequenceRows rows = {0, kTokens, 0, 1, kTokens};
  const int32_t path = 0;
  std::vector<float> logits(static_cast<size_t>(kTokens * vocab));
  model.forward({tokens, all, slots, {&rows, 1}, {&node, 1}, {&path, 1}, all}, logits);
  return logits;
}

std::vector<float> logits_of(cpu::Isa isa, const RandomModel& random, WeightFormat format) {
  return logits_of(*open_on(isa, random, format));
}

double rms(const std::vector<float>& values) {
  double squares = 0;
  for (const float value : values) squares += double{value} * value;
  return std::sqrt(squares / static_cast<double>(values.size()));
}

// Root mean square of the difference divided by that of the exact logits.
double noise(const std::vector<float>& logits, const std::vector<float>& exact) {
  std::vector<float> difference;
  for (size_t i = 0; i < logits.size(); ++i) difference.push_back(logits[i] - exact[i]);
  return rms(difference) / rms(exact);
}

ModelConfig middle_config() {
  ModelConfig config = small_config();
  config.hidden_size = 130;
  config.intermediate_size = 200;
  config.num_layers = 3;
  return config;
}

fs::path cache_of(const RandomModel& random, WeightFormat format) {
  return random.dir.path() / ".apar" / std::string("cpu1-").append(to_string(format)).append(".bin");
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

// Relative errors (root mean square). A weight that is uniform in [-m, m] has the error step / sqrt(12): 0.4
// % with int8's step m / 127, 6.3 % with int4's m / 8. Activations are always int8, and the largest of 32 is
// about 2.2 times their mean: 0.5 %. A product has the same relative errors, together 0.63 % and 6.3 %.
// Errors of different products are independent, so their squares add up. A token passes 7 products in each of
// 3 layers and the head: sqrt(22) times as much if nothing damps them, 3 % and 30 %. Keys and values in bf16
// add 1.1 % (bf16 alone).
TEST_CASE("the error of quantised logits stays within the bound that follows from the format") {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    const RandomModel random = make_random_model(middle_config(), seed);
    for (const cpu::Isa isa : cpu::kAllIsas) {
      if (!cpu::supported(isa)) continue;
      CAPTURE(std::string(cpu::to_string(isa)));
      const auto exact = logits_of(isa, random, WeightFormat::f32);
      const double bf16 = noise(logits_of(isa, random, WeightFormat::bf16), exact);
      const double int8 = noise(logits_of(isa, random, WeightFormat::int8), exact);
      const double int4 = noise(logits_of(isa, random, WeightFormat::int4), exact);
      CHECK(int8 < 0.032);
      CHECK(int4 < 0.33);
      // The errors must be ordered by precision, or a format is not really used.
      CHECK(bf16 < int8);
      CHECK(int8 < int4);
    }
  }
}

TEST_CASE("packed weights are cached in a file beside the model, and reused with the same bits") {
  for (const WeightFormat format : {WeightFormat::int8, WeightFormat::int4}) {
    const RandomModel random = make_random_model(middle_config(), 4);
    const auto isa = cpu::select_isa();
    const auto first = logits_of(isa, random, format);
    const fs::path cache = cache_of(random, format);
    REQUIRE(fs::exists(cache));
    const auto written = fs::last_write_time(cache);
    CHECK(same_bits(first, logits_of(isa, random, format)));
    CHECK(fs::last_write_time(cache) == written);  // it was not written again
    CHECK(std::distance(fs::directory_iterator(cache.parent_path()), {}) == 1);
    // The model uses the file: other scales of the output layer, its last bytes, give other logits.
    {
      std::fstream file(cache, std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(-512, std::ios::end);
      file.write(std::string(512, '\x2c').data(), 512);
    }
    CHECK_FALSE(same_bits(first, logits_of(isa, random, format)));
  }
}

TEST_CASE("a truncated, foreign or outdated cache file is ignored and written again") {
  const RandomModel random = make_random_model(middle_config(), 5);
  const auto isa = cpu::select_isa();
  const auto want = logits_of(isa, random, WeightFormat::int8);
  const fs::path cache = cache_of(random, WeightFormat::int8);
  const auto size = fs::file_size(cache);
  const auto check_ignored = [&](const char* what, auto corrupt) {
    CAPTURE(std::string(what));
    corrupt();
    CHECK(same_bits(want, logits_of(isa, random, WeightFormat::int8)));
    CHECK(fs::file_size(cache) == size);
  };
  check_ignored("truncated", [&] { fs::resize_file(cache, size - 64); });
  check_ignored("truncated within the description", [&] { fs::resize_file(cache, 100); });
  check_ignored("empty", [&] { fs::resize_file(cache, 0); });
  check_ignored("too long", [&] { fs::resize_file(cache, size + 64); });
  check_ignored("of another model", [&] {
    const RandomModel other = make_random_model(middle_config(), 6);
    logits_of(isa, other, WeightFormat::int8);
    fs::copy_file(cache_of(other, WeightFormat::int8), cache, fs::copy_options::overwrite_existing);
  });
  check_ignored("older than the weights", [&] {
    // The file has wrong contents, and the weights have a newer modification time than its description says.
    const fs::path weights = random.weights.files[0];
    fs::last_write_time(weights, fs::last_write_time(weights) + std::chrono::seconds(2));
    std::fstream file(cache, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-512, std::ios::end);
    file.write(std::string(512, '\x2c').data(), 512);
  });
}

TEST_CASE("what a process left that was killed while it wrote the cache is removed") {
  const RandomModel random = make_random_model(middle_config(), 9);
  const fs::path cache = cache_of(random, WeightFormat::int8);
  fs::create_directory(cache.parent_path());
  const fs::path abandoned = cache.string() + ".999999999.part", living = cache.string() + ".1.part",
                 other = cache.parent_path() / "notes.999999999.part";
  for (const fs::path& file : {abandoned, living, other}) std::ofstream(file) << "x";
  open_on(cpu::select_isa(), random, WeightFormat::int8);
  CHECK(fs::exists(cache));
  CHECK(!fs::exists(abandoned));
  CHECK(fs::exists(living));
  CHECK(fs::exists(other));
}

TEST_CASE("if the cache file cannot be written, loading still works") {
  const RandomModel random = make_random_model(middle_config(), 7);
  std::ofstream(random.dir.path() / ".apar") << "a file instead of the folder";
  const auto isa = cpu::select_isa();
  const auto logits = logits_of(isa, random, WeightFormat::int4);
  CHECK(same_bits(logits, logits_of(isa, random, WeightFormat::int4)));
  CHECK(fs::is_regular_file(random.dir.path() / ".apar"));
}

TEST_CASE("with an adapter the cache lies beside it, and belongs to its factor") {
  RandomModel random = make_random_model(middle_config(), 8);
  const auto isa = cpu::select_isa();
  const auto base = logits_of(isa, random, WeightFormat::int8);
  const auto written = fs::last_write_time(cache_of(random, WeightFormat::int8));
  const TempDir adapter;
  WeightTable& table = random.weights;
  table.files.push_back((adapter.path() / "adapter.bin").string());
  const auto head = std::find_if(table.tensors.begin(), table.tensors.end(),
                                 [](const TensorInfo& tensor) { return tensor.name == "lm_head.weight"; });
  REQUIRE(head != table.tensors.end());
  const int64_t rows = head->shape[0], cols = head->shape[1];
  const std::vector<float> ones(static_cast<size_t>(rows + cols), 1.0f);
  std::ofstream(table.files[1], std::ios::binary)
      .write(reinterpret_cast<const char*>(ones.data()),
             static_cast<std::streamsize>(ones.size() * sizeof(float)));
  head->lora = {0.25f, false};
  table.tensors.push_back({"lm_head.weight.lora_A", 1, 0, DType::f32, {1, cols}});
  table.tensors.push_back(
      {"lm_head.weight.lora_B", 1, static_cast<uint64_t>(cols) * sizeof(float), DType::f32, {rows, 1}});
  const auto factor_of_head = [&](float scale) {
    for (TensorInfo& tensor : table.tensors)
      if (tensor.lora) tensor.lora->scale = scale;
  };
  const auto adapted = logits_of(isa, random, WeightFormat::int8);
  CHECK(fs::exists(adapter.path() / ".apar" / "cpu1-int8.bin"));
  CHECK(same_bits(adapted, logits_of(isa, random, WeightFormat::int8)));
  factor_of_head(0.5f);
  const auto other = logits_of(isa, random, WeightFormat::int8);
  CHECK_FALSE(same_bits(adapted, base));
  CHECK_FALSE(same_bits(adapted, other));
  CHECK(fs::last_write_time(cache_of(random, WeightFormat::int8)) == written);
}
