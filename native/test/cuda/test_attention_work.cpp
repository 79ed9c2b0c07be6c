// The attention's work list: every row meets each of its tokens once and in order, whatever is shared.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "ops/cuda/attention_work.h"
#include "test/cuda/tree_batch.h"

using namespace apar;
using namespace apar::cuda;
using namespace apar::test;

namespace {

struct PartPlace {
  int32_t row, chunk;
  bool folded;
  std::vector<int32_t> slots;  // in order
};

// What the kernels will do with the work list, as data: part number → row and tokens.
std::map<int32_t, PartPlace> follow(const AttentionWork& work, int32_t group) {
  std::map<int32_t, PartPlace> parts;
  const auto take = [&](const AttentionItem& item) {
    CHECK(item.first_position % kChunkTokens == 0);
    CHECK(item.num_tokens >= 1);
    CHECK(item.first_position / kSpanTokens == (item.first_position + item.num_tokens - 1) / kSpanTokens);
    for (int32_t row = 0; row < item.num_rows; ++row) {
      const int32_t context = work.contexts()[item.first_row + row];
      for (int32_t i = 0; i < item.num_tokens && item.first_position + i < context; ++i) {
        const int32_t chunk = item.folded ? 0 : i / kChunkTokens;
        PartPlace& part = parts[item.first_part + chunk * item.num_rows + row];
        if (part.slots.empty())
          part = {item.first_row + row, (item.first_position + i) / kChunkTokens, item.folded != 0, {}};
        if (part.row != item.first_row + row) FAIL("two rows leave the same part");
        part.slots.push_back(work.slots()[item.first_slot + i]);
      }
    }
  };
  for (const AttentionItem& item : work.small_items()) {
    CHECK(item.num_rows * group <= kSmallQueries);
    take(item);
  }
  for (const AttentionItem& item : work.large_items()) {
    CHECK(item.num_rows * group <= std::max(kLargeQueries, group));
    take(item);
  }
  return parts;
}

void check_work(const TreeBatch& tree, int32_t group, int64_t max_parts) {
  AttentionWork work;
  work.build(tree.batch(), group, max_parts);
  CHECK(work.num_parts() <= max_parts);
  const auto parts = follow(work, group);
  std::set<int32_t> rows_seen;
  REQUIRE(work.rows().size() == static_cast<size_t>(tree.batch().rows()));
  for (size_t planned = 0; planned < work.rows().size(); ++planned) {
    const int32_t row = work.rows()[planned];
    rows_seen.insert(row);
    CHECK(work.contexts()[planned] == tree.batch().positions[row] + 1);
    std::vector<int32_t> slots;
    for (int32_t i = work.merge_begin()[planned]; i < work.merge_begin()[planned + 1]; ++i) {
      const int32_t code = work.merge_parts()[i];
      CHECK(code / 2 < work.num_parts());
      const PartPlace& part = parts.at(code / 2);
      CHECK(part.row == static_cast<int32_t>(planned));
      CHECK((code % 2 == 1) == (part.chunk % kSpanChunks == 0));
      // Results of several chunks begin with a span, or folding them would round differently.
      if (part.slots.size() > kChunkTokens) CHECK(part.chunk % kSpanChunks == 0);
      slots.insert(slots.end(), part.slots.begin(), part.slots.end());
    }
    CHECK(slots == tree.visible_slots(row));
  }
  CHECK(rows_seen.size() == work.rows().size());
}

}  // namespace

TEST_CASE("random trees: every token once, in order") {
  for (uint32_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    const TreeBatch tree = random_tree_batch(seed, 8, 400);
    const int64_t room = AttentionWork::max_parts(tree.batch().rows(), 4000);
    for (const int32_t group : {1, 3, 8, 70}) check_work(tree, group, room);
  }
}

TEST_CASE("a shared prompt is read once, up to the chunk in which the branches part") {
  const TreeBatch tree = fan_batch(450, 50, 32);
  AttentionWork work;
  work.build(tree.batch(), 1, AttentionWork::max_parts(32, 500));
  int32_t tokens = 0;
  for (const AttentionItem& item : work.small_items()) tokens += item.num_tokens;
  for (const AttentionItem& item : work.large_items()) tokens += item.num_tokens;
  // 448 shared, and per branch two of the prompt's last tokens and its own.
  CHECK(tokens == 448 + 32 * 52);
  CHECK(work.large_items().size() == 2);
  check_work(tree, 1, AttentionWork::max_parts(32, 500));
}

TEST_CASE("too many partial results: whole spans are shared, no more of them than rows and spans") {
  const TreeBatch tree = fan_batch(450, 50, 32);
  AttentionWork work;
  const int64_t needed = [&] {
    work.build(tree.batch(), 1, 1000);
    return work.num_parts();
  }();
  check_work(tree, 1, needed - 1);
  work.build(tree.batch(), 1, needed - 1);
  CHECK(work.num_parts() == 32 * 2);
}
