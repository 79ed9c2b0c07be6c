// Both attention kernels over random trees against double precision. Slots that no row sees hold NaN.
#include <doctest/doctest.h>

#include <set>

#include "ops/cuda/attention/attention.h"
#include "test/cuda/device_array.h"
#include "test/cuda/either_order.h"
#include "test/cuda/fp8_pool.h"
#include "test/cuda/mismatches.h"
#include "test/cuda/open_device.h"
#include "test/cuda/step_words.h"
#include "test/cuda/tree_batch.h"

using namespace apar;
using namespace apar::cuda;
using namespace apar::test;

namespace {

using Kernel = decltype(&attention_plain);

// The inputs of a step on the host. Keys and values have the precision of the pool; for fp8 there is also the
// pool itself.
struct Inputs {
  HeadShape shape;
  std::vector<float> q, keys, values;
  Fp8Pool fp8;
};

Inputs random_inputs(std::mt19937& random, const TreeBatch& tree, HeadShape shape, KvFormat format) {
  const auto tokens = static_cast<size_t>(tree.num_blocks()) * kBlockTokens * shape.kv_heads;
  const auto dim = static_cast<size_t>(shape.head_dim);
  Inputs inputs = {
      shape,
      random_floats(random, static_cast<size_t>(tree.batch().rows()) * shape.heads * shape.head_dim, 2),
      random_floats(random, tokens * dim),
      random_floats(random, tokens * dim),
      {tokens, shape.head_dim}};
  std::set<int32_t> seen;
  for (int32_t row = 0; row < tree.batch().rows(); ++row)
    for (const int32_t slot : tree.visible_slots(row)) seen.insert(slot);
  for (size_t token = 0; token < tokens; ++token) {
    const std::span<float> key = std::span(inputs.keys).subspan(token * dim, dim),
                           value = std::span(inputs.values).subspan(token * dim, dim);
    const size_t block = token / kBlockTokens / shape.kv_heads;
    if (!seen.contains(static_cast<int32_t>(block * kBlockTokens + token % kBlockTokens))) {
      std::fill(key.begin(), key.end(), NAN);
      std::fill(value.begin(), value.end(), NAN);
    } else if (format == KvFormat::fp8) {
      // Tokens have different magnitudes, and so different scales.
      for (float& element : key) element = std::ldexp(element, static_cast<int>(token % 5) - 3);
      for (float& element : value) element = std::ldexp(element, static_cast<int>(token % 7) - 3);
      inputs.fp8.put(token, key, value);
      std::ranges::copy(fp8_head(key).values, key.begin());
      std::ranges::copy(fp8_head(value).values, value.begin());
    } else if (format == KvFormat::bf16) {
      for (float& element : key) element = bf16_to_f32(f32_to_bf16(element));
      for (float& element : value) element = bf16_to_f32(f32_to_bf16(element));
    }
  }
  return inputs;
}

// For each row of the batch: the names of the work items whose partial results it merges, such as "small 3".
std::vector<std::vector<std::string>> items_of_rows(const AttentionWork& work) {
  std::vector<std::string> item_of_partial(work.num_partials());
  const auto name = [&](std::span<const AttentionItem> items, const char* kind) {
    for (size_t i = 0; i < items.size(); ++i) {
      const int32_t chunks = items[i].folded != 0 ? 1 : tiles_of(items[i].num_tokens, kChunkTokens);
      for (int32_t partial = 0; partial < items[i].num_rows * chunks; ++partial)
        item_of_partial[items[i].first_partial + partial] = kind + std::to_string(i);
    }
  };
  name(work.small_items(), "small ");
  name(work.large_items(), "large ");
  std::vector<std::vector<std::string>> items(work.rows().size());
  for (size_t planned = 0; planned < work.rows().size(); ++planned)
    for (int32_t i = work.merge_begin()[planned]; i < work.merge_begin()[planned + 1]; ++i)
      items[work.rows()[planned]].push_back(item_of_partial[work.merge_partials()[i] / 2]);
  return items;
}

std::vector<float> run(Device& device, const TreeBatch& tree, const Inputs& inputs, KvFormat format,
                       Kernel kernel, const AttentionLimits& limits, Sharing sharing = Sharing::always,
                       AttentionGrid grid = {3, 2}) {
  const HeadShape shape = inputs.shape;
  AttentionWork work(sharing);
  work.build(tree.batch(), shape.group(), limits);
  const DeviceArray<int32_t> step(device, step_words(tree.batch(), work));
  const DeviceArray<float> q(device, inputs.q), keys(device, inputs.keys), values(device, inputs.values);
  const DeviceArray<uint16_t> keys_bf16(device, to_bf16(inputs.keys)),
      values_bf16(device, to_bf16(inputs.values));
  const DeviceArray<uint8_t> keys_fp8(device, inputs.fp8.keys), values_fp8(device, inputs.fp8.values);
  const DeviceArray<KvScale> scales_fp8(device, inputs.fp8.scales);
  KvLayer kv = {keys_bf16.data(), values_bf16.data(), format};
  if (format == KvFormat::f32) kv = {keys.data(), values.data(), format};
  if (format == KvFormat::fp8) kv = {keys_fp8.data(), values_fp8.data(), format, scales_fp8.data()};
  const size_t scores = static_cast<size_t>(work.num_partials()) * shape.heads;
  const DeviceArray<float> sums(device, scores * shape.head_dim), scales(device, scores * 2),
      out(device, inputs.q.size());
  const DeviceArray<uint16_t> out_bf16(device, inputs.q.size());
  const AttentionPartials partials = {sums.data(), scales.data()};
  kernel(device.stream(), header(step), shape, q.data(), kv, partials, grid);
  attention_merge(device.stream(), header(step), tree.batch().rows(), shape, partials, out.data(),
                  out_bf16.data());
  const std::vector<float> got = out.get();
  CHECK(out_bf16.get() == to_bf16(got));
  return got;
}

std::string case_name(const TreeBatch& tree, HeadShape shape, KvFormat format, Kernel kernel) {
  constexpr const char* kFormats[] = {"f32", "bf16", "fp8"};
  return std::string(kernel == attention_mma ? "attention_mma " : "attention_plain ") +
         kFormats[static_cast<int>(format)] + " rows " + std::to_string(tree.batch().rows()) + " heads " +
         std::to_string(shape.heads) + "/" + std::to_string(shape.kv_heads) + " x " +
         std::to_string(shape.head_dim);
}

std::vector<double> expected(const TreeBatch& tree, const Inputs& inputs) {
  const HeadShape shape = inputs.shape;
  std::vector<double> want;
  for (int32_t row = 0; row < tree.batch().rows(); ++row) {
    const std::vector<int32_t> slots = tree.visible_slots(row);
    for (int32_t head = 0; head < shape.heads; ++head) {
      const float* const q = &inputs.q[(static_cast<size_t>(row) * shape.heads + head) * shape.head_dim];
      const auto at = [&](int32_t slot) {
        const size_t block = static_cast<size_t>(slot / kBlockTokens) * shape.kv_heads + head / shape.group();
        return (block * kBlockTokens + slot % kBlockTokens) * shape.head_dim;
      };
      std::vector<double> weights, sum(shape.head_dim, 0.0);
      double total = 0;
      for (const int32_t slot : slots) {
        double score = 0;
        for (int32_t d = 0; d < shape.head_dim; ++d) score += double{q[d]} * inputs.keys[at(slot) + d];
        weights.push_back(std::exp(score / std::sqrt(shape.head_dim)));
        total += weights.back();
      }
      for (size_t i = 0; i < slots.size(); ++i)
        for (int32_t d = 0; d < shape.head_dim; ++d)
          sum[d] += weights[i] / total * inputs.values[at(slots[i]) + d];
      want.insert(want.end(), sum.begin(), sum.end());
    }
  }
  return want;
}

void check(uint32_t seed, const TreeBatch& tree, HeadShape shape, KvFormat format, Kernel kernel,
           double tolerance) {
  CAPTURE(seed);
  CAPTURE(shape.head_dim);
  CAPTURE(shape.group());
  std::mt19937 random(seed);
  const auto device = open_test_device();
  const Inputs inputs = random_inputs(random, tree, shape, format);
  const int64_t room = AttentionWork::max_partials(tree.batch().rows(), 2000);
  const auto got = in_either_order([&] { return run(*device, tree, inputs, format, kernel, {room}); });
  const std::vector<double> want = expected(tree, inputs);
  double largest = 0;
  for (const double value : want) largest = std::max(largest, std::abs(value));
  const std::string name = case_name(tree, shape, format, kernel);
  const int32_t width = shape.heads * shape.head_dim;
  AttentionWork work;
  work.build(tree.batch(), shape.group(), {room});
  const auto items = items_of_rows(work);
  Mismatches wrong(name, 1, shape.head_dim);
  for (size_t i = 0; i < want.size(); ++i) {
    const auto row = static_cast<int32_t>(i / width);
    wrong.compare(row, static_cast<int32_t>(i % width), got[i], want[i], tolerance * largest, items[row]);
  }
  CHECK(wrong.check());
  const auto same_bits = [&](const char* how, const std::vector<float>& other) {
    Mismatches different(name + how, 1, shape.head_dim);
    different.same(other, got, width);
    CHECK(different.check());
  };
  // Another division into work items gives the same bits, and so does plain paged attention.
  const int64_t rows = tree.batch().rows();
  const auto divided = [&](const char* how, const AttentionLimits& limits,
                           Sharing sharing = Sharing::always) {
    same_bits(how,
              in_either_order([&] { return run(*device, tree, inputs, format, kernel, limits, sharing); }));
  };
  divided(", not shared", {room}, Sharing::never);
  divided(", one result per row", {rows});
  divided(", one and a half results per row", {rows + rows / 2});
  divided(", prompts in one item", {room, room * kChunkTokens, 1});
  divided(", by chunk", {100 * rows, 100 * rows * kChunkTokens, 1 << 20});
  if (format != KvFormat::fp8) return;
  // bf16 represents the fp8 values exactly, and they are multiplied and added in the same order.
  const KvFormat wider = kernel == attention_mma ? KvFormat::bf16 : KvFormat::f32;
  same_bits(", from a wider cache", run(*device, tree, inputs, wider, kernel, {room}));
}

}  // namespace

TEST_CASE("the plain kernel: any head size and every format") {
  for (uint32_t seed = 1; seed <= 3; ++seed) {
    const TreeBatch tree = random_tree_batch(seed, 4, 90);
    check(seed, tree, {4, 2, 6}, KvFormat::f32, attention_plain, 1e-5);
    check(seed, tree, {3, 3, 40}, KvFormat::f32, attention_plain, 1e-5);
    check(seed, tree, {2, 1, 64}, KvFormat::bf16, attention_plain, 1e-5);
    check(seed, tree, {4, 2, 6}, KvFormat::fp8, attention_plain, 1e-5);
    check(seed, tree, {3, 3, 40}, KvFormat::fp8, attention_plain, 1e-5);
  }
}

TEST_CASE("the tensor-core kernel: every head size, with grouped heads") {
  // The tolerance is large because queries and softmax weights are rounded to bf16.
  for (uint32_t seed = 1; seed <= 3; ++seed) {
    const TreeBatch tree = random_tree_batch(seed, 5, 150);
    for (const KvFormat format : {KvFormat::bf16, KvFormat::fp8}) {
      check(seed, tree, {4, 4, 64}, format, attention_mma, 1e-2);
      check(seed, tree, {4, 2, 80}, format, attention_mma, 1e-2);
      check(seed, tree, {3, 1, 96}, format, attention_mma, 1e-2);
      check(seed, tree, {8, 1, 128}, format, attention_mma, 1e-2);
    }
  }
}

TEST_CASE("a prompt that many branches share") {
  const TreeBatch tree = fan_batch(450, 50, 20);
  check(1, tree, {2, 2, 64}, KvFormat::bf16, attention_mma, 1e-2);
  check(3, tree, {2, 2, 64}, KvFormat::fp8, attention_mma, 1e-2);
  check(2, tree, {2, 1, 32}, KvFormat::f32, attention_plain, 1e-5);
}

// Items of several spans: of 64 rows, of 16 rows, and of a branch whose first chunks other items have listed.
TEST_CASE("paths of several spans") {
  std::mt19937 random(3);
  TreeBatch tree;
  const int32_t prompt = tree.add_node(-1, 1150, random);
  tree.add_sequence(prompt, 1150, 70);
  for (const int32_t own : {30, 300, 560}) tree.add_sequence(tree.add_node(prompt, own, random), own, 1);
  tree.add_sequence(tree.add_node(-1, 830, random), 830, 20);
  for (const KvFormat format : {KvFormat::bf16, KvFormat::fp8}) {
    check(1, tree, {2, 2, 64}, format, attention_mma, 1e-2);
    check(2, tree, {2, 1, 80}, format, attention_mma, 1e-2);
  }
  check(3, tree, {2, 1, 16}, KvFormat::f32, attention_plain, 1e-5);
}

// One block copies the chunks of an item while it computes the item before, from the first item to the last.
TEST_CASE("items of any length after one another in one block, as in many blocks") {
  for (const KvFormat format : {KvFormat::bf16, KvFormat::fp8}) {
    for (uint32_t seed = 11; seed <= 12; ++seed) {
      const TreeBatch tree = random_tree_batch(seed, 10, 330);
      std::mt19937 random(seed);
      const auto device = open_test_device();
      const Inputs inputs = random_inputs(random, tree, {2, 2, 64}, format);
      for (const Kernel kernel : {attention_mma, attention_plain}) {
        const auto with_grid = [&](AttentionGrid grid) {
          return in_either_order(
              [&] { return run(*device, tree, inputs, format, kernel, {2000}, Sharing::always, grid); });
        };
        const std::vector<float> many = with_grid({1000, 2});
        std::vector<AttentionGrid> grids = {{1, 2}};
        if (format == KvFormat::bf16) grids.insert(grids.end(), {{1, 3}, {4, 3}});
        for (const AttentionGrid grid : grids) {
          Mismatches different("blocks " + std::to_string(grid.blocks), 1, 64);
          different.same(with_grid(grid), many, 128);
          CHECK(different.check());
        }
      }
    }
  }
}

// 40 rows of a prompt in one item of four warps, and each row in an item of its own, whose chunks the warps
// share.
TEST_CASE("a row of a large item has the bits of the same row in a small item") {
  std::mt19937 random(5);
  TreeBatch prompt, rows;
  for (TreeBatch* const tree : {&prompt, &rows}) {
    std::mt19937 same_blocks(6);
    const int32_t node = tree->add_node(-1, 700, same_blocks);
    if (tree == &prompt) tree->add_sequence(node, 690, 40);
    for (int32_t tokens = 651; tree == &rows && tokens <= 690; ++tokens) tree->add_sequence(node, tokens, 1);
  }
  const auto device = open_test_device();
  for (const KvFormat format : {KvFormat::bf16, KvFormat::fp8}) {
    const Inputs inputs = random_inputs(random, prompt, {2, 2, 96}, format);
    const auto result = [&](const TreeBatch& tree) {
      return in_either_order(
          [&] { return run(*device, tree, inputs, format, attention_mma, {2000}, Sharing::never); });
    };
    Mismatches different("small items", 1, 96);
    different.same(result(rows), result(prompt), 192);
    CHECK(different.check());
  }
}

TEST_CASE("the shapes that the tensor-core kernel supports") {
  CHECK(attention_mma_supports({32, 32, 128}, KvFormat::bf16));
  CHECK(attention_mma_supports({64, 1, 64}, KvFormat::bf16));
  CHECK(attention_mma_supports({64, 1, 64}, KvFormat::fp8));
  CHECK_FALSE(attention_mma_supports({65, 1, 64}, KvFormat::bf16));
  CHECK_FALSE(attention_mma_supports({32, 32, 128}, KvFormat::f32));
  CHECK_FALSE(attention_mma_supports({32, 32, 72}, KvFormat::bf16));
}
