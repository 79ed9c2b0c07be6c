#include <doctest/doctest.h>

#include <vector>

#include "ops/cpu/attention_plan.h"

using namespace apar;

namespace {

// Node 0 is a prompt with 40 tokens. Nodes 1 and 2 are its children, node 3 is a child of node 1, node 4 is
// another prompt. Lengths include the tokens of this step.
struct Fixture {
  std::vector<int32_t> lengths = {40, 5, 3, 7, 9};
  std::vector<KvNodeView> nodes;
  std::vector<int32_t> path;
  std::vector<SequenceRows> sequences;
  std::vector<int32_t> tokens;

  Fixture() {
    for (const int32_t length : lengths) nodes.push_back({{}, 0, length});
  }
  void add(std::vector<int32_t> nodes_of_path, int32_t rows) {
    int32_t context = 0;
    for (const int32_t node : nodes_of_path) context += lengths[node];
    sequences.push_back({static_cast<int32_t>(tokens.size()), rows, static_cast<int32_t>(path.size()),
                         static_cast<int32_t>(nodes_of_path.size()), context});
    path.insert(path.end(), nodes_of_path.begin(), nodes_of_path.end());
    tokens.resize(tokens.size() + rows);
  }
  StepBatch batch() const { return {tokens, {}, {}, sequences, nodes, path, {}}; }
};

}  // namespace

TEST_CASE("a shared node has one segment, with all rows below it next to each other") {
  Fixture fixture;
  fixture.add({0, 2}, 1);
  fixture.add({4}, 9);
  fixture.add({0, 1, 3}, 1);
  fixture.add({0, 1}, 2);
  AttentionPlan plan;
  plan.build(fixture.batch(), 64);
  REQUIRE(plan.tiles().size() == 1);
  CHECK(std::vector<int32_t>(plan.rows().begin(), plan.rows().end()) ==
        std::vector<int32_t>{11, 12, 10, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  CHECK(std::vector<int32_t>(plan.contexts().begin(), plan.contexts().end()) ==
        std::vector<int32_t>{44, 45, 52, 43, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  std::vector<std::vector<int32_t>> segments;
  for (const AttentionSegment& s : plan.segments())
    segments.push_back({s.node, s.first_position, s.begin_row, s.end_row});
  CHECK(segments == std::vector<std::vector<int32_t>>{
                        {0, 0, 0, 4}, {1, 40, 0, 3}, {3, 45, 2, 3}, {2, 40, 3, 4}, {4, 0, 4, 13}});
}

TEST_CASE("long chunks are split into tiles, and each tile has the segments of its rows") {
  Fixture fixture;
  fixture.add({0, 1}, 3);
  fixture.add({0, 2}, 2);
  AttentionPlan plan;
  for (const int32_t rows_per_tile : {1, 2, 3, 4, 5, 100}) {
    CAPTURE(rows_per_tile);
    plan.build(fixture.batch(), rows_per_tile);
    int32_t row = 0, segment = 0;
    for (const AttentionTile& tile : plan.tiles()) {
      CHECK(tile.begin_row == row);
      CHECK(tile.begin_segment == segment);
      CHECK(tile.end_row - tile.begin_row <= rows_per_tile);
      row = tile.end_row;
      segment = tile.end_segment;
      // The segments of each row are exactly its path, in order.
      for (int32_t r = tile.begin_row; r < tile.end_row; ++r) {
        int32_t position = 0;
        for (int32_t s = tile.begin_segment; s < tile.end_segment; ++s) {
          const AttentionSegment& found = plan.segments()[s];
          if (r < found.begin_row || r >= found.end_row) continue;
          CHECK(found.first_position == position);
          position += fixture.lengths[found.node];
        }
        CHECK(position == (plan.rows()[r] < 3 ? 45 : 43));
      }
    }
    CHECK(row == 5);
    CHECK(segment == static_cast<int32_t>(plan.segments().size()));
  }
}
