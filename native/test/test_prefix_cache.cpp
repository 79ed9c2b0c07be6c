#include <doctest/doctest.h>

#include "core/decoder.h"
#include "fake_model.h"
#include "transcript.h"

using namespace apar;

namespace {

struct Rig {
  explicit Rig(int32_t blocks, bool prefix_cache = true)
      : model(12, 1024, blocks, 512), decoder(model, {{9, 10, {11}}, 512, 8, prefix_cache}) {}

  struct Result {
    int64_t prefill, cached;
    std::vector<int32_t> path;
  };
  // Runs one serial request until it finishes.
  Result serve(int32_t id, const std::vector<int32_t>& prompt, int32_t max_tokens = 8) {
    RequestParams params;
    params.id = id;
    params.prompt = prompt;
    params.max_tokens = max_tokens;
    Transcript transcript(prompt);
    std::vector<Event> events;
    const DecoderStats before = decoder.stats();
    decoder.submit(params);
    while (decoder.step(events)) decoder.check_integrity();
    for (const Event& event : events) REQUIRE(transcript.apply(event) == "");
    const DecoderStats after = decoder.stats();
    CHECK(events.back().b == after.cached_prompt_tokens - before.cached_prompt_tokens);
    return {after.prefill_tokens - before.prefill_tokens,
            after.cached_prompt_tokens - before.cached_prompt_tokens, transcript.branches.at(0).path};
  }

  FakeModel model;
  Decoder decoder;
};

std::vector<int32_t> text(int32_t length, int32_t first) {
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < length; ++i) tokens.push_back((first + i * i) % 9);
  return tokens;
}

}  // namespace

TEST_CASE("a repeated prompt is cached: no prefill, the same text") {
  Rig rig(64);
  const auto first = rig.serve(1, text(100, 1));
  CHECK(first.cached == 0);
  CHECK(first.prefill == 100);
  const auto again = rig.serve(2, text(100, 1));
  CHECK(again.cached == 100);
  CHECK(again.prefill == 0);
  CHECK(again.path == first.path);
  CHECK(rig.decoder.stats().free_blocks == 64);
  CHECK(rig.decoder.stats().cached_blocks > 0);
}

TEST_CASE("a next turn, and another question after the same system prompt, compute only the new tokens") {
  Rig rig(64);
  const std::vector<int32_t> system = text(53, 2);
  std::vector<int32_t> turn = system;
  turn.insert(turn.end(), {1, 2, 3});
  const auto answer = rig.serve(1, turn);
  std::vector<int32_t> next = answer.path;
  next.insert(next.end(), {4, 5, 6, 7});
  // The last token of the answer was sampled, but its K and V were not computed.
  CHECK(rig.serve(2, next).cached == static_cast<int64_t>(answer.path.size()) - 1);
  std::vector<int32_t> other = system;
  other.insert(other.end(), {8, 8, 8});
  const auto result = rig.serve(3, other);
  CHECK(result.cached == 53);
  CHECK(result.path == Rig(64, false).serve(1, other).path);
}

TEST_CASE("the least recently used text is evicted first, from its end") {
  Rig rig(16);  // 256 tokens
  const auto a = text(90, 1), b = text(90, 2), c = text(90, 3);
  rig.serve(1, a);
  rig.serve(2, b);
  CHECK(rig.serve(3, a).cached == 90);  // now b is the least recently used one
  rig.serve(4, c);
  CHECK(rig.serve(5, a).cached == 90);
  const int64_t left = rig.serve(6, b).cached;
  CHECK(left < 90);
  CHECK(left % kBlockTokens == 0);
}

TEST_CASE("with the prefix cache off nothing is cached") {
  Rig rig(64, false);
  rig.serve(1, text(100, 1));
  CHECK(rig.decoder.stats().cached_blocks == 0);
  CHECK(rig.serve(2, text(100, 1)).cached == 0);
}

TEST_CASE("requests that start at the same time compute their common prefix once") {
  Rig rig(64);
  std::vector<Event> events;
  for (int32_t id = 1; id <= 4; ++id) {
    RequestParams params;
    params.id = id;
    params.prompt = text(200, 5);
    params.max_tokens = 20;
    rig.decoder.submit(params);
  }
  rig.decoder.step(events);
  rig.decoder.check_integrity();
  // 13 blocks for the prompt and at most one own block for each request.
  CHECK(rig.decoder.stats().used_blocks <= 13 + 4);
  while (rig.decoder.step(events)) rig.decoder.check_integrity();
  CHECK(rig.decoder.stats().prefill_tokens <= 200);
}

TEST_CASE("a request that needs the whole pool shares no prefix that would cost it a block") {
  const std::vector<int32_t> other = text(40, 1);
  std::vector<int32_t> prompt(other.begin(), other.begin() + 21);
  while (prompt.size() < 60) prompt.push_back((other[21] + 1) % 9);
  for (const int32_t blocks : {8, 9}) {
    CAPTURE(blocks);
    Rig rig(blocks);
    rig.serve(1, other, 1);
    RequestParams params;
    params.id = 2;
    params.prompt = prompt;
    params.max_tokens = 8 * kBlockTokens - static_cast<int32_t>(prompt.size());
    params.logit_bias = {{11, -1000.0f}, {9, -1000.0f}};
    rig.decoder.submit(params);
    std::vector<Event> events;
    while (!rig.decoder.idle()) REQUIRE(rig.decoder.step(events));
    CHECK(rig.decoder.stats().cached_prompt_tokens == (blocks == 8 ? 16 : 21));
  }
}
