// Where candidates come from: the n-gram index and the tree of the heads' predictions.
#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "core/draft/acceptance.h"
#include "core/draft/head_source.h"
#include "core/draft/ngram_source.h"

using namespace apar;

namespace {

std::vector<int32_t> continued(const NgramIndex& index, int32_t text, size_t count) {
  std::vector<int32_t> out;
  index.continue_text(text, count, out);
  return out;
}

int32_t length(const NgramIndex& index, int32_t text) {
  std::vector<int32_t> out;
  return index.continue_text(text, 1, out);
}

}  // namespace

TEST_CASE("the end of a text is continued as where it occurred before") {
  NgramIndex index;
  index.append(0, std::vector<int32_t>{1, 2, 3, 4, 5, 9, 9, 2, 3});
  CHECK(length(index, 0) == 2);
  CHECK(continued(index, 0, 3) == std::vector<int32_t>{4, 5, 9});
  index.append(0, std::vector<int32_t>{4});
  CHECK(length(index, 0) == 3);
  CHECK(continued(index, 0, 2) == std::vector<int32_t>{5, 9});
  index.append(0, std::vector<int32_t>{7});
  CHECK(length(index, 0) == 0);
  CHECK(continued(index, 0, 2).empty());
}

TEST_CASE("the longest match comes first, of equal ones the latest") {
  NgramIndex index;
  index.append(0, std::vector<int32_t>{1, 2, 3, 50, 7, 2, 3, 60, 8, 2, 3, 70, 1, 2, 3});
  CHECK(length(index, 0) == 3);
  CHECK(continued(index, 0, 1) == std::vector<int32_t>{50});
  index.append(0, std::vector<int32_t>{99, 2, 3});
  CHECK(length(index, 0) == 2);
  CHECK(continued(index, 0, 1) == std::vector<int32_t>{99});
}

TEST_CASE("a text that repeats itself goes on doing so, beyond its end") {
  NgramIndex index;
  index.append(0, std::vector<int32_t>{1, 2, 1, 2, 1});
  CHECK(continued(index, 0, 6) == std::vector<int32_t>{2, 1, 2, 1, 2, 1});
}

TEST_CASE("texts of other branches are found, and end where they end") {
  NgramIndex index;
  index.append(0, std::vector<int32_t>{1, 2, 3});
  index.append(2, std::vector<int32_t>{10, 11, 12, 13});
  index.append(1, std::vector<int32_t>{10, 11});
  CHECK(continued(index, 1, 5) == std::vector<int32_t>{12, 13});
  CHECK(continued(index, 3, 5).empty());
  CHECK(continued(index, 0, 5).empty());
}

TEST_CASE("a match is that of a search through all texts, if the index has not forgotten them") {
  std::mt19937 random(3);
  NgramIndex index;
  std::vector<std::vector<int32_t>> texts(3);
  for (int i = 0; i < 400; ++i) {
    const auto text = random() % 3;
    const auto token = static_cast<int32_t>(random() % 24);
    texts[text].push_back(token);
    index.append(static_cast<int32_t>(text), {&token, 1});
    for (size_t each = 0; each < texts.size(); ++each) {
      const auto& end = texts[each];
      int32_t longest = 0;
      for (size_t other = 0; other < texts.size(); ++other) {
        for (size_t at = 0; at + 1 < texts[other].size(); ++at) {
          int32_t same = 0;
          while (same <= static_cast<int32_t>(at) && same < static_cast<int32_t>(end.size()) &&
                 texts[other][at - static_cast<size_t>(same)] ==
                     end[end.size() - 1 - static_cast<size_t>(same)])
            ++same;
          longest = std::max(longest, same);
        }
      }
      CHECK(length(index, static_cast<int32_t>(each)) == (longest < 2 ? 0 : longest));
    }
  }
}

TEST_CASE("the index forgets the first half of its texts when there are too many tokens") {
  NgramIndex index(100);
  for (int32_t token = 0; token < 1000; ++token) {
    index.append(token % 2, {&token, 1});
    CHECK(index.num_tokens() <= 100);
  }
  const std::vector<int32_t> recent = {990, 992}, old = {10, 12};
  index.append(0, recent);
  CHECK(continued(index, 0, 2) == std::vector<int32_t>{994, 996});
  index.append(0, old);
  CHECK(continued(index, 0, 2).empty());
}

TEST_CASE("n-grams make one chain, compared by the length of the match") {
  NgramSource source;
  source.append(0, std::vector<int32_t>{1, 2, 3, 4, 1, 2, 3});
  std::vector<Candidate> out;
  source.propose(0, 3, out);
  REQUIRE(out.size() == 3);
  for (int32_t i = 0; i < 3; ++i) {
    const Candidate& candidate = out[static_cast<size_t>(i)];
    CHECK(candidate.parent == i - 1);
    CHECK(candidate.depth == i);
    CHECK(candidate.bucket == 3 + i);
  }
  CHECK(out[0].token == 4);
  source.propose(0, 0, out);
  CHECK(out.empty());
}

TEST_CASE("heads make a tree of the likeliest paths, likeliest first") {
  const auto p = [](float probability) { return std::log(probability); };
  const std::vector<DraftCandidate> heads = {{1, p(0.6f)}, {2, p(0.3f)},  {3, p(0.1f)},
                                             {4, p(0.5f)}, {5, p(0.45f)}, {-1, -INFINITY}};
  HeadSource source;
  std::vector<Candidate> out;
  source.propose(0, 9, out);
  CHECK(out.empty());
  source.predicted(0, heads, 3);
  source.propose(0, 9, out);
  std::vector<std::vector<int32_t>> paths;
  for (const Candidate& candidate : out) {
    std::vector<int32_t> path = {candidate.token};
    if (candidate.parent >= 0) path.insert(path.begin(), out[static_cast<size_t>(candidate.parent)].token);
    CHECK(candidate.depth == static_cast<int32_t>(path.size()) - 1);
    CHECK(candidate.bucket < AcceptanceRates::kBuckets);
    paths.push_back(path);
  }
  // 0.6, 0.3, 0.3, 0.27, 0.15, 0.135, 0.1, 0.05, 0.045
  REQUIRE(paths.size() == 9);
  CHECK(paths[0] == std::vector<int32_t>{1});
  CHECK(paths[3] == std::vector<int32_t>{1, 5});
  CHECK(paths[4] == std::vector<int32_t>{2, 4});
  CHECK(paths[5] == std::vector<int32_t>{2, 5});
  CHECK(paths[6] == std::vector<int32_t>{3});
  CHECK(paths[8] == std::vector<int32_t>{3, 5});
  source.propose(0, 1, out);
  CHECK(out.size() == 3);
  const int32_t token = 1;
  source.append(0, {&token, 1});  // the predictions were for another token
  source.propose(0, 9, out);
  CHECK(out.empty());
}

TEST_CASE("the tree of heads has at most 7 candidates at the first depth, 6 below each, 49 in all") {
  std::vector<DraftCandidate> heads;
  for (int32_t i = 0; i < 4 * 10; ++i) heads.push_back({i, std::log(0.3f)});
  HeadSource source;
  source.predicted(2, heads, 10);
  std::vector<Candidate> out;
  source.propose(2, 9, out);
  CHECK(out.size() == HeadSource::kMostCandidates);
  std::vector<int32_t> below(out.size() + 1, 0);
  for (const Candidate& candidate : out)
    ++below[candidate.parent < 0 ? out.size() : static_cast<size_t>(candidate.parent)];
  CHECK(below.back() <= 7);
  below.pop_back();
  for (const int32_t count : below) CHECK(count <= 6);
}
