// The attention work list: every row reads each of its tokens once and in order, whatever is shared.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "common/error.h"
#include "ops/cuda/step/attention_work.h"
#include "test/cuda/tree_batch.h"

using namespace apar;
using namespace apar::cuda;
using namespace apar::test;

namespace {

// The row and the tokens of a partial result.
struct PartialTokens {
  int32_t row, chunk;
  bool folded;
  std::vector<int32_t> slots;  // by position
};

// Executes the work list as the kernels do, and returns the row and the tokens of each partial result by its
// number.
std::map<int32_t, PartialTokens> execute(const AttentionWork& work, int32_t group) {
  std::map<int32_t, PartialTokens> partials;
  const auto execute_item = [&](const AttentionItem& item) {
    CHECK(item.first_position % kChunkTokens == 0);
    CHECK(item.num_tokens >= 1);
    if (item.first_position / kSpanTokens != (item.first_position + item.num_tokens - 1) / kSpanTokens) {
      CHECK(item.first_position == 0);
      CHECK(item.folded == 1);
    }
    for (int32_t row = 0; row < item.num_rows; ++row) {
      const int32_t context = work.contexts()[item.first_row + row];
      for (int32_t i = 0; i < item.num_tokens && item.first_position + i < context; ++i) {
        const int32_t chunk = item.folded ? 0 : i / kChunkTokens;
        PartialTokens& partial = partials[item.first_partial + chunk * item.num_rows + row];
        if (partial.slots.empty())
          partial = {item.first_row + row, (item.first_position + i) / kChunkTokens, item.folded != 0, {}};
        if (partial.row != item.first_row + row) FAIL("two rows write the same partial result");
        const int32_t at =
            item.first_chunk_slot < 0
                ? item.first_slot + i
                : work.chunk_slots()[item.first_chunk_slot + i / kChunkTokens] + i % kChunkTokens;
        partial.slots.push_back(work.slots()[at]);
      }
    }
  };
  for (const AttentionItem& item : work.small_items()) {
    CHECK(item.num_rows * group <= kSmallQueries);
    execute_item(item);
  }
  for (const AttentionItem& item : work.large_items()) {
    CHECK(item.num_rows * group <= std::max(kLargeQueries, group));
    execute_item(item);
  }
  return partials;
}

// For heads of 128 dimensions in bf16, as in a Llama.
AttentionBytes bytes_for(int32_t group) {
  return attention_bytes(group, 128, KvFormat::bf16);
}

AttentionWork built(const TreeBatch& tree, Sharing sharing, int32_t group, const AttentionLimits& limits) {
  AttentionWork work(sharing, bytes_for(group));
  work.build(tree.batch(), group, limits);
  return work;
}

AttentionWork check_work(const TreeBatch& tree, int32_t group, const AttentionLimits& limits,
                         Sharing sharing = Sharing::always) {
  const AttentionWork work = built(tree, sharing, group, limits);
  CHECK(work.num_partials() <= limits.partials);
  if (sharing != Sharing::never) CHECK(std::ssize(work.slots()) <= limits.slots);
  const auto partials = execute(work, group);
  std::set<int32_t> rows_seen;
  REQUIRE(work.rows().size() == static_cast<size_t>(tree.batch().rows()));
  for (size_t planned = 0; planned < work.rows().size(); ++planned) {
    const int32_t row = work.rows()[planned];
    rows_seen.insert(row);
    CHECK(work.contexts()[planned] == tree.batch().positions[row] + 1);
    std::vector<int32_t> slots;
    for (int32_t i = work.merge_begin()[planned]; i < work.merge_begin()[planned + 1]; ++i) {
      const int32_t code = work.merge_partials()[i];
      CHECK(code / 2 < work.num_partials());
      const PartialTokens& partial = partials.at(code / 2);
      CHECK(partial.row == static_cast<int32_t>(planned));
      CHECK((code % 2 == 1) == (partial.chunk % kSpanChunks == 0));
      // Results of several chunks must begin with a span, else folding them would round differently.
      if (partial.slots.size() > kChunkTokens) CHECK(partial.chunk % kSpanChunks == 0);
      slots.insert(slots.end(), partial.slots.begin(), partial.slots.end());
    }
    CHECK(slots == tree.visible_slots(row));
  }
  CHECK(rows_seen.size() == work.rows().size());
  return work;
}

}  // namespace

TEST_CASE("random trees: every row reads each token once and in order") {
  for (uint32_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    const TreeBatch tree = random_tree_batch(seed, 8, 400);
    const int64_t room = AttentionWork::max_partials(tree.batch().rows(), 4000);
    for (const int32_t group : {1, 3, 8, 70})
      for (const Sharing sharing : {Sharing::always, Sharing::never, Sharing::by_cost})
        check_work(tree, group, {room}, sharing);
  }
}

TEST_CASE("a shared prompt is read once, up to the chunk in which the branches diverge") {
  const TreeBatch tree = fan_batch(450, 50, 32);
  AttentionWork work;
  work.build(tree.batch(), 1, {AttentionWork::max_partials(32, 500)});
  int32_t tokens = 0;
  for (const AttentionItem& item : work.small_items()) tokens += item.num_tokens;
  for (const AttentionItem& item : work.large_items()) tokens += item.num_tokens;
  // 448 tokens are shared. Each branch also reads the prompt's last two tokens and its own 50.
  CHECK(tokens == 448 + 32 * 52);
  CHECK(work.large_items().size() == 2);
  check_work(tree, 1, {AttentionWork::max_partials(32, 500)});
}

namespace {

int64_t tokens_of(const AttentionWork& work) {
  int64_t tokens = 0;
  for (const auto items : {work.small_items(), work.large_items()})
    for (const AttentionItem& item : items) tokens += item.num_tokens;
  return tokens;
}

}  // namespace

TEST_CASE("plain paged attention reads every path separately") {
  const TreeBatch tree = fan_batch(450, 50, 32);
  const AttentionWork work = built(tree, Sharing::never, 1, {1000});
  CHECK(tokens_of(work) == 32 * 500);
  CHECK(work.num_partials() == 32 * 2);  // one per span
  CHECK(work.slots().size() == 32 * 500);
}

TEST_CASE("the bytes that a work list moves") {
  // For heads of 128 in bf16 with 4 query heads per KV head: 512 bytes per token, 2048 for a row's queries,
  // 4160 for a partial result.
  const AttentionWork work = built(fan_batch(64, 10, 3), Sharing::always, 4, {1000});
  CHECK(tokens_of(work) == 64 + 3 * 10);
  CHECK(work.bytes() == (64 + 30) * 512 + (3 + 3) * 2048 + (3 + 3) * 4160);
}

TEST_CASE("by cost: the list that moves the fewest bytes is chosen") {
  int shared = 0, plain = 0;
  for (uint32_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    const TreeBatch tree = random_tree_batch(seed, 8, 400);
    const int64_t room = AttentionWork::max_partials(tree.batch().rows(), 4000);
    for (const int32_t group : {1, 8}) {
      const int64_t always = built(tree, Sharing::always, group, {room}).bytes();
      const int64_t never = built(tree, Sharing::never, group, {room}).bytes();
      CHECK(built(tree, Sharing::by_cost, group, {room}).bytes() <= std::min(always, never));
      shared += always < never;
      plain += never < always;
    }
  }
  CHECK(shared > 10);
  CHECK(plain > 1);
}

TEST_CASE(
    "by cost: many branches share a prompt; two that diverge early in a span do not if heads are grouped") {
  const auto shares = [](const TreeBatch& tree, int32_t group) {
    const int64_t room = AttentionWork::max_partials(tree.batch().rows(), 4000);
    return tokens_of(built(tree, Sharing::by_cost, group, {room})) <
           tokens_of(built(tree, Sharing::never, group, {room}));
  };
  CHECK(shares(fan_batch(450, 50, 32), 1));
  CHECK(shares(fan_batch(450, 50, 32), 8));
  // Sharing saves one read of 64 tokens, but then three chunks of each branch have their own partial results.
  CHECK(shares(fan_batch(64, 192, 2), 1));
  CHECK_FALSE(shares(fan_batch(64, 192, 2), 8));
}

TEST_CASE("a list that would be too long is shared at any cost") {
  const TreeBatch tree = fan_batch(64, 192, 2);
  AttentionWork work(Sharing::by_cost, bytes_for(8));
  work.build(tree.batch(), 8, {1000, 2 * 256});
  CHECK(work.slots().size() == 2 * 256);
  work.build(tree.batch(), 8, {1000, 2 * 256 - 1});
  CHECK(work.slots().size() == 2 * 256 - 64);
}

TEST_CASE("the values of APAR_CUDA_ATTENTION") {
  CHECK(parse_sharing("shared") == Sharing::always);
  CHECK(parse_sharing("plain") == Sharing::never);
  CHECK(parse_sharing("auto") == Sharing::by_cost);
  CHECK_THROWS_AS(parse_sharing("flash"), Error);
}

TEST_CASE("with too many partial results only whole spans are shared, with one result per row and span") {
  const TreeBatch tree = fan_batch(450, 50, 32);
  AttentionWork work;
  const int64_t needed = [&] {
    work.build(tree.batch(), 1, {1000});
    return work.num_partials();
  }();
  check_work(tree, 1, {needed - 1});
  work.build(tree.batch(), 1, {needed - 1});
  CHECK(work.num_partials() == 32 * 2);
}

namespace {

int32_t longest_item(const AttentionWork& work) {
  int32_t longest = 0;
  for (const auto items : {work.small_items(), work.large_items()})
    for (const AttentionItem& item : items) longest = std::max(longest, item.num_tokens);
  return longest;
}

int64_t num_items(const AttentionWork& work) {
  return std::ssize(work.small_items()) + std::ssize(work.large_items());
}

// The limit of slots that the engine uses (memory_plan.cpp).
int64_t slots_for(const TreeBatch& tree) {
  return int64_t{2} * tree.num_blocks() * kBlockTokens + int64_t{tree.batch().rows()} * kSpanTokens;
}

}  // namespace

TEST_CASE("random trees fit any number of partial results from one per row on") {
  int32_t longest = 0, shared = 0;
  for (uint32_t seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    const TreeBatch tree = random_tree_batch(seed, 10, 900);
    const int64_t rows = tree.batch().rows();
    for (const int32_t group : {1, 8, 70}) {
      for (const Sharing sharing : {Sharing::always, Sharing::never, Sharing::by_cost}) {
        for (const int64_t more : {int64_t{0}, int64_t{1}, rows / 10, rows / 2, rows, 3 * rows}) {
          const AttentionWork work = check_work(tree, group, {rows + more, slots_for(tree)}, sharing);
          if (more == 0) CHECK(work.num_partials() == rows);
          longest = std::max(longest, longest_item(work));
          shared += work.chunk_slots().empty() ? 0 : 1;
        }
      }
    }
  }
  CHECK(longest > 8 * kSpanTokens);
  CHECK(shared > 10);  // items whose chunks other items have listed
}

TEST_CASE("random trees: items of one chunk, and whole prompts") {
  int chunks = 0, whole = 0;
  for (uint32_t seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    const TreeBatch tree = random_tree_batch(seed, 6, 600);
    for (const int32_t group : {1, 8}) {
      for (const int32_t busy : {1, 40, 100000}) {
        const int64_t room = 100 * tree.batch().rows();
        const AttentionWork work = check_work(tree, group, {room, slots_for(tree), busy});
        chunks += longest_item(work) <= kChunkTokens;
        whole += longest_item(work) > kSpanTokens;
      }
    }
  }
  CHECK(chunks > 10);
  CHECK(whole > 10);
}

TEST_CASE(
    "few rows are divided into chunks, until the items keep the device busy or the results do not fit") {
  const TreeBatch tree = fan_batch(450, 50, 1);
  CHECK(num_items(check_work(tree, 1, {100, 1000, 2})) == 2);
  const AttentionWork divided = check_work(tree, 1, {100, 1000, 3});
  CHECK(num_items(divided) == 8);
  CHECK(divided.num_partials() == 8);
  CHECK(num_items(check_work(tree, 1, {8, 1000, 100})) == 8);
  CHECK(num_items(check_work(tree, 1, {7, 1000, 100})) == 2);
}

TEST_CASE("a prompt whose tiles keep the device busy has one item per tile and one partial result per row") {
  std::mt19937 random(1);
  TreeBatch tree;
  tree.add_sequence(tree.add_node(-1, 1500, random), 1500, 512);
  const AttentionWork spans = check_work(tree, 1, {10000, 10000, 17});
  CHECK(longest_item(spans) == kSpanTokens);
  const AttentionWork whole = check_work(tree, 1, {10000, 10000, 16});
  CHECK(num_items(whole) == 8);
  CHECK(whole.num_partials() == 512);
  CHECK(whole.slots().size() == 1500);
  // Branches of another text in the same step keep their spans.
  const int32_t other = tree.add_node(-1, 600, random);
  for (int32_t i = 0; i < 2; ++i) tree.add_sequence(tree.add_node(other, 40, random), 40, 1);
  const AttentionWork both = check_work(tree, 1, {10000, 10000, 16});
  CHECK(both.num_partials() == 512 + 2 * (2 + 1 + 1));
}

TEST_CASE("the longest items come first") {
  std::mt19937 random(1);
  TreeBatch tree;
  tree.add_sequence(tree.add_node(-1, 1500, random), 1500, 100);
  tree.add_sequence(tree.add_node(-1, 2500, random), 2500, 64);
  const AttentionWork work = check_work(tree, 1, {164, 10000});
  REQUIRE(work.large_items().size() == 3);
  CHECK(work.large_items()[0].num_tokens == 2500);
}
