// The trace of a request: one record for each step with rows of it, and figures that a recount gives, too.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <tuple>
#include <utility>
#include <vector>

#include "core/decoder.h"
#include "drafting_model.h"
#include "staggered.h"
#include "transcript.h"

using namespace apar;

namespace {

constexpr int32_t kVocab = 12, kFork = 9, kChild = 10, kEos = 11;
constexpr int32_t kContext = 256;

struct Record {
  int32_t rows = 0, batch_rows = 0, live = 0, sampled = 0, blocks = 0, used_blocks = 0;
  int32_t attended = 0, cached = 0, drafted = 0, accepted = 0;
  int32_t step = -1, micros = 0;
  // Of the events since the record before.
  int32_t tokens = 0, forks = 0, ends = 0;
};

// The records of each request; other events than those of traces are in `transcripts`.
struct Traces {
  std::map<int32_t, std::vector<Record>> records;
  std::map<int32_t, Transcript> transcripts;
  std::map<int32_t, Record> open;

  void apply(const Event& event) {
    Record& record = open[event.request];
    if (event.kind != EventKind::trace) {
      record.tokens += event.kind == EventKind::token ? 1 : 0;
      record.forks += event.kind == EventKind::fork ? 1 : 0;
      record.ends += event.kind == EventKind::branch_end ? 1 : 0;
      REQUIRE(transcripts.at(event.request).apply(event) == "");
      return;
    }
    switch (static_cast<TraceField>(event.branch)) {
      case TraceField::rows:
        std::tie(record.rows, record.batch_rows) = std::pair(event.a, event.b);
        break;
      case TraceField::branches:
        std::tie(record.live, record.sampled) = std::pair(event.a, event.b);
        break;
      case TraceField::blocks:
        std::tie(record.blocks, record.used_blocks) = std::pair(event.a, event.b);
        break;
      case TraceField::tokens:
        std::tie(record.attended, record.cached) = std::pair(event.a, event.b);
        break;
      case TraceField::drafts:
        std::tie(record.drafted, record.accepted) = std::pair(event.a, event.b);
        break;
      case TraceField::step:
        std::tie(record.step, record.micros) = std::pair(event.a, event.b);
        records[event.request].push_back(record);
        record = {};
        break;
      default:
        FAIL("unknown field");
    }
  }
};

struct Settings {
  int32_t blocks = 128, branches = 16;
  PolicyKind policy = PolicyKind::eager;
  Speculation speculation = Speculation::off;
  bool prefix_cache = false;
};

struct Served {
  Traces traces;
  DecoderStats stats;
};

// A step of the model takes a second.
Served serve(const Settings& settings, const std::vector<RequestParams>& requests) {
  DecoderConfig config;
  config.tokens = {kFork, kChild, {kEos}};
  config.max_step_tokens = 64;
  config.max_branches = settings.branches;
  config.policy = settings.policy;
  config.prefix_cache = settings.prefix_cache;
  config.speculation = settings.speculation;
  DraftingModel model(kVocab, kContext, settings.blocks, 64, config.tokens,
                      settings.speculation == Speculation::off ? Heads::none : Heads::random, false);
  config.clock = model.clock();
  Decoder decoder(model, config);
  Served served;
  for (const RequestParams& request : requests)
    served.traces.transcripts.emplace(request.id, Transcript(request.prompt));
  for (const Event& event : test::run_staggered(decoder, requests, 50000)) served.traces.apply(event);
  served.stats = decoder.stats();
  return served;
}

RequestParams request(int32_t id, int32_t prompt, int32_t depth = 1) {
  RequestParams params;
  params.id = id;
  std::mt19937 random(static_cast<uint32_t>(id));
  for (int32_t i = 0; i < prompt; ++i) params.prompt.push_back(static_cast<int32_t>(random() % 9));
  params.max_tokens = 120;
  params.max_branches = 16;
  params.max_depth = depth;
  params.sampling.temperature = 1;
  params.sampling.seed = static_cast<uint32_t>(id);
  params.trace = true;
  return params;
}

int32_t blocks_of(int32_t tokens) {
  return (tokens + kBlockTokens - 1) / kBlockTokens;
}

}  // namespace

TEST_CASE("a serial request alone: the prompt, then one row and one more token in each step") {
  const Served served = serve({}, {request(1, 37)});
  const std::vector<Record>& records = served.traces.records.at(1);
  REQUIRE(records.size() > 10);
  REQUIRE(static_cast<int64_t>(records.size()) == served.stats.steps);
  int32_t tokens = 0;
  for (size_t i = 0; i < records.size(); ++i) {
    const Record& record = records[i];
    const auto step = static_cast<int32_t>(i);
    CHECK(record.step == step);
    CHECK(record.micros == 1'000'000);
    CHECK(record.live == 1);
    CHECK(record.sampled == 1);
    CHECK(record.rows == (i == 0 ? 37 : 1));
    CHECK(record.batch_rows == record.rows);
    CHECK(record.cached == 37 + step);
    CHECK(record.attended == (i == 0 ? 37 * 38 / 2 : 37 + step));
    CHECK(record.blocks == blocks_of(37 + step));
    CHECK(record.used_blocks == record.blocks);
    tokens += record.tokens;
  }
  CHECK(tokens == served.traces.transcripts.at(1).tokens);
  CHECK(records.back().ends == 1);
}

TEST_CASE("the records of random trees add up to the decoder's counts and fit the events around them") {
  int32_t most_live = 0, forks = 0, shared = 0;
  int64_t preemptions = 0;
  for (int32_t seed = 1; seed <= 30; ++seed) {
    std::vector<RequestParams> requests;
    for (int32_t i = 0; i < 4; ++i) requests.push_back(request(10 * seed + i, 5 + 13 * i, 3));
    // One request is not traced: it counts in the batch only.
    requests.back().trace = false;
    const Served served = serve({.blocks = seed % 2 == 0 ? 24 : 128, .branches = 12}, requests);
    preemptions += served.stats.preemptions;
    std::map<int32_t, std::pair<int32_t, int32_t>> rows_of_step;  // step: of traced requests, of the batch
    for (const auto& [id, records] : served.traces.records) {
      REQUIRE(id != requests.back().id);
      const Transcript& transcript = served.traces.transcripts.at(id);
      int32_t live = 1, tokens = 0, last_step = -1, sampled = 0;
      for (const Record& record : records) {
        REQUIRE(record.step > last_step);
        last_step = record.step;
        CHECK(record.live == live);
        CHECK(record.sampled <= record.live);
        CHECK(record.sampled <= record.rows);
        // A fork gives a second token, the forced [Child]; an end gives none.
        CHECK(record.tokens - record.forks <= record.sampled);
        CHECK(record.attended >= record.rows);
        CHECK(record.blocks >= blocks_of(record.cached));
        CHECK(record.blocks <= record.used_blocks);
        live += record.forks - record.ends;
        tokens += record.tokens;
        sampled += record.sampled;
        forks += record.forks;
        most_live = std::max(most_live, record.live);
        // What the live branches attend to is more than what is cached, because they share it.
        shared +=
            record.sampled > 1 && record.sampled == record.rows && record.attended > record.cached ? 1 : 0;
        auto& [traced, batch] = rows_of_step[record.step];
        traced += record.rows;
        batch = record.batch_rows;
      }
      CHECK(live == 0);
      CHECK(tokens == transcript.tokens);
      CHECK(sampled >= tokens - static_cast<int32_t>(transcript.branches.size()) + 1);
    }
    for (const auto& [step, rows] : rows_of_step) CHECK(rows.first <= rows.second);
  }
  CHECK(most_live >= 6);
  CHECK(forks > 100);
  CHECK(shared > 100);
  CHECK(preemptions > 5);
}

TEST_CASE("a trace changes no answer") {
  for (int32_t seed = 1; seed <= 20; ++seed) {
    RequestParams traced = request(seed, 9, 3), plain = traced;
    plain.trace = false;
    const Served with = serve({}, {traced}), without = serve({}, {plain});
    const Transcript& one = with.traces.transcripts.at(seed);
    const Transcript& other = without.traces.transcripts.at(seed);
    REQUIRE(one.branches.size() == other.branches.size());
    for (const auto& [id, branch] : one.branches) {
      CHECK(branch.path == other.branches.at(id).path);
      CHECK(branch.reason == other.branches.at(id).reason);
    }
    CHECK(without.traces.records.empty());
  }
}

TEST_CASE("the drafts of the records are those of the request") {
  int32_t drafted = 0;
  for (int32_t seed = 1; seed <= 20; ++seed) {
    RequestParams params = request(seed, 9, 2);
    params.sampling.temperature = 0;
    const Served served = serve({.speculation = Speculation::automatic}, {params});
    const Transcript& transcript = served.traces.transcripts.at(seed);
    Record total;
    for (const Record& record : served.traces.records.at(seed)) {
      total.drafted += record.drafted;
      total.accepted += record.accepted;
      CHECK(record.rows >= record.sampled + record.drafted);
    }
    CHECK(total.drafted == transcript.drafted);
    CHECK(total.accepted == transcript.accepted);
    drafted += total.drafted;
  }
  CHECK(drafted > 100);
}

TEST_CASE("what ends between two steps is in a last record without rows") {
  DecoderConfig config;
  config.tokens = {kFork, kChild, {kEos}};
  config.max_step_tokens = 64;
  config.max_branches = 8;
  DraftingModel model(kVocab, kContext, 64, 64, config.tokens, Heads::none, false);
  config.clock = model.clock();
  Decoder decoder(model, config);
  Traces traces;
  RequestParams params = request(1, 5);
  traces.transcripts.emplace(1, Transcript(params.prompt));
  std::vector<Event> events;
  decoder.submit(params);
  decoder.step(events);
  model.now += 0.25;
  decoder.abort(1, events);
  for (const Event& event : events) traces.apply(event);
  const std::vector<Record>& records = traces.records.at(1);
  REQUIRE(records.size() == 2);
  CHECK(records[0].tokens == 1);
  CHECK(records[1].rows == 0);
  CHECK(records[1].ends == 1);
  CHECK(records[1].micros == 250'000);
  CHECK(traces.transcripts.at(1).finish == FinishReason::abort);
}
