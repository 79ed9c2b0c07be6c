#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>

#include "core/decoder.h"
#include "fake_model.h"
#include "transcript.h"

using namespace apar;

namespace {

constexpr int32_t kVocab = 12, kFork = 9, kChild = 10, kEos = 11;

std::vector<uint8_t> bytes(const std::string& text) {
  return {text.begin(), text.end()};
}

// Where the first stop string is complete in a text given in pieces, as an index of the pieces; -1: nowhere.
// A piece
// "|" is a fork.
int complete_at(const std::vector<std::string>& strings, const std::vector<std::string>& pieces,
                bool drop_space = false) {
  const StopStrings stops(strings);
  StopMatcher matcher;
  matcher.begin(stops, drop_space);
  for (size_t i = 0; i < pieces.size(); ++i) {
    const bool complete = pieces[i] == "|" ? matcher.flush(stops) : matcher.push(stops, bytes(pieces[i]));
    if (complete) return static_cast<int>(i);
  }
  return -1;
}

Transcript run(const RequestParams& params, int32_t step_tokens, int32_t branches, int32_t blocks) {
  FakeModel model(kVocab, 512, blocks, step_tokens);
  DecoderConfig config;
  config.tokens = {kFork, kChild, {kEos}};
  config.max_step_tokens = step_tokens;
  config.max_branches = branches;
  config.text = letters(kVocab);
  Decoder decoder(model, std::move(config));
  Transcript transcript(params.prompt);
  decoder.submit(params);
  std::vector<Event> events;
  while (!decoder.idle()) {
    REQUIRE(decoder.step(events));
    for (const Event& event : events) REQUIRE(transcript.apply(event) == "");
    events.clear();
    decoder.check_integrity();
  }
  return transcript;
}

std::string text_of(const Transcript::BranchText& branch) {
  std::string text;
  for (size_t i = branch.own_from; i < branch.path.size(); ++i)
    if (branch.path[i] < kFork) text.push_back(static_cast<char>('a' + branch.path[i]));
  return text;
}

}  // namespace

TEST_CASE("a stop string is found at the piece that completes it") {
  CHECK(complete_at({"abc"}, {"xa", "b", "abx", "abc", "abc"}) == 3);
  CHECK(complete_at({"aab"}, {"aaa", "b"}) == 1);
  CHECK(complete_at({"abab", "bc"}, {"aba", "bc"}) == 1);
  CHECK(complete_at({"abcd", "bc"}, {"abc"}) == 0);
  CHECK(complete_at({"x"}, {"", "abc"}) == -1);
  CHECK(complete_at({}, {"abc"}) == -1);
  CHECK(complete_at({" a"}, {" a", " a"}, true) == 1);
  CHECK(complete_at({"a"}, {" a"}, true) == 0);
  // Across a fork in the branch's own text.
  CHECK(complete_at({"abc"}, {"ab", "|", "c"}) == 2);
}

TEST_CASE("stop strings are matched in UTF-8 as clients see it") {
  const std::string replacement = "\xef\xbf\xbd";
  CHECK(complete_at({"\xe2\x82\xac"}, {"\xe2", "\x82", "\xac"}) == 2);
  // A byte inside a character is not text.
  CHECK(complete_at({replacement}, {"\xe2\x82\xac"}) == -1);
  CHECK(complete_at({replacement}, {"\xe2\x82", "a"}) == 1);
  CHECK(complete_at({replacement + "a"}, {"\xe2\x82", "a"}) == 1);
  CHECK(complete_at({replacement + replacement}, {"\xe2\x82", "a"}) == -1);
  CHECK(complete_at({replacement}, {"\xff"}) == 0);
  CHECK(complete_at({replacement}, {"\xc3", "|"}) == 1);
  CHECK(complete_at({replacement}, {"\xc3\xa4", "|"}) == -1);
  const auto times = [&](int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += replacement;
    return text + "!";
  };
  // As many replacement characters as the WHATWG decoder has: one for each longest valid beginning, else for
  // each byte.
  const std::vector<std::pair<std::string, int>> invalid = {
      {"\xf0\x80\x80", 3}, {"\xf0\x9f\x92", 1}, {"\xed\xa0\x80", 3}, {"\xf4\x90\x80\x80", 4},
      {"\xc0\xaf", 2},     {"\xe2\x28", 0},     {"\x80\xc3", 2},     {"\xf0\x9f\xf0\x9f", 2},
  };
  for (const auto& [text, count] : invalid) {
    if (count == 0) continue;
    CAPTURE(text);
    CHECK(complete_at({times(count)}, {text, "!"}) == 1);
    CHECK(complete_at({times(count + 1)}, {text, "!"}) == -1);
  }
  CHECK(complete_at({replacement + "("}, {"\xe2("}) == 0);
}

TEST_CASE("a branch ends with the token that completes a stop string, whatever the batch") {
  int stopped = 0, forks = 0;
  for (uint32_t seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    RequestParams params;
    params.id = 1;
    for (uint32_t i = 1 + random() % 20; i > 0; --i)
      params.prompt.push_back(static_cast<int32_t>(random() % 9));
    params.max_tokens = 300;
    params.max_branches = 64;
    params.max_depth = 3;
    for (uint32_t i = 1 + random() % 3; i > 0; --i) {
      std::string stop;
      for (uint32_t n = 1 + random() % 3; n > 0; --n) stop.push_back(static_cast<char>('a' + random() % 9));
      params.stop.push_back(stop);
    }
    const Transcript transcript = run(params, 20, 8, 128);
    int tokens = 0;
    for (const auto& [id, branch] : transcript.branches) {
      tokens += static_cast<int>(branch.path.size() - branch.own_from);
      const std::string text = text_of(branch);
      size_t end = std::string::npos;
      for (const std::string& stop : params.stop)
        if (const size_t at = text.find(stop); at != std::string::npos) end = std::min(end, at + stop.size());
      if (end == std::string::npos) continue;
      CHECK(end == text.size());
      CHECK(branch.path.back() < kFork);
      CHECK(branch.reason == FinishReason::stop);
      ++stopped;
    }
    CHECK(tokens == transcript.tokens);
    CHECK(tokens <= params.max_tokens);
    forks += static_cast<int>(transcript.branches.size()) - 1;
  }
  CHECK(stopped > 200);
  CHECK(forks > 100);
}

TEST_CASE("in document scope a stop string does not lie across a fork of its branch") {
  const StopStrings stops({"ab", "\nc"});
  StopMatcher matcher;
  matcher.begin(stops, false);
  CHECK_FALSE(matcher.push(stops, bytes("a")));
  matcher.restart(true);
  CHECK_FALSE(matcher.push(stops, bytes("b\n")));
  matcher.restart(true);
  // The joint that is mended drops the line feed.
  CHECK_FALSE(matcher.push(stops, bytes("\n\nc")));
  CHECK(matcher.push(stops, bytes("\nc")));
}
