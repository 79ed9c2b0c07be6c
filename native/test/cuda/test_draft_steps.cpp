// Steps with candidates, and the passes of draft heads between them: what is captured, and what is waited
// for.
#include <doctest/doctest.h>

#include "core/step_drafts.h"
#include "test/cuda/cuda_model.h"
#include "test/cuda/emulated_model.h"
#include "test/draft_check.h"
#include "test/sequence_run.h"
#include "test/speculation_run.h"

using namespace apar;
using namespace apar::test;

namespace {

ModelConfig small_heads() {
  return tensor_core_config(
      {.hidden_size = 40, .intermediate_size = 48, .num_layers = 1, .num_heads = 1, .num_kv_heads = 1});
}

}  // namespace

TEST_CASE("trees of candidates of any shape replay the graphs of few padded numbers of rows") {
  constexpr int32_t kRows = 48;
  const RandomModel checkpoint = make_random_model(small_heads(), 3);
  std::mt19937 random(5);
  const std::vector<RequestParams> requests =
      random_requests(random, {8, 40, false, true}, checkpoint.config.vocab_size);
  const ServeSettings settings = {.tokens = {2, 0, {}}, .step_tokens = kRows};
  EmulatedModel plain = open_emulated(checkpoint, 64, kRows);
  KnowingModel plain_model(std::move(plain.model));
  const Served without = serve(plain_model, settings, requests);

  EmulatedModel opened = open_emulated(checkpoint, 64, kRows);
  KnowingModel model(std::move(opened.model), without.texts, 3);
  ServeSettings drafting = settings;
  drafting.speculation = Speculation::automatic;
  const Served with = serve(model, drafting, requests);
  CHECK(with.answers == without.answers);
  int64_t verified = 0;
  for (const DraftCount& each : with.by_depth) verified += each.drafted;
  CHECK(verified > 300);
  const int32_t replays = opened.device->graph_launches() - opened.device->captures();
  MESSAGE(model.drawn() << " steps, " << opened.device->captures() << " captures, " << replays << " replays, "
                        << verified << " candidates");
  // 1, 2, 4, 8, 16, 24, 32 and 48 rows that all have logits; with prompts, also other numbers of logits.
  CHECK(opened.device->captures() <= 16);
  CHECK(replays > model.drawn() / 2);
}

TEST_CASE("a step has no more candidates than the device has room for their logits") {
  constexpr int32_t kRows = 256, kBranches = 12;
  const StepRows rows = {kRows, StepDrafts::host_logit_rows(kBranches)};
  const RandomModel checkpoint = make_random_model(small_heads(), 3);
  std::mt19937 random(5);
  const std::vector<RequestParams> requests =
      random_requests(random, {8, 40, false, true}, checkpoint.config.vocab_size);
  const ServeSettings settings = {.tokens = {2, 0, {}}, .step_tokens = kRows, .branches = kBranches};
  KnowingModel plain(open_emulated(checkpoint, 128, rows).model);
  const Served without = serve(plain, settings, requests);
  // The model refuses a step with more.
  KnowingModel model(open_emulated(checkpoint, 128, rows).model, without.texts, 3);
  ServeSettings drafting = settings;
  drafting.speculation = Speculation::automatic;
  CHECK(serve(model, drafting, requests).answers == without.answers);
  CHECK(model.most_logits() == rows.max_with_logits);
}

TEST_CASE("rows and tokens of a draft wait for nothing but the pass before") {
  const RandomModel random = make_random_model(reading_next_token(with_heads(small_heads(), true)), 4);
  const auto [device, model] = open_emulated(random, 8, 24);
  SequenceRun run{*model, {3}};
  run.step(random_tokens(6, 5, random.config.vocab_size));
  for (int pass = 0; pass < 2; ++pass) {
    const int32_t before = device->waits();
    drafts_of(*model, {0, 3}, 3);
    CHECK(device->waits() == before + 1);  // for the candidates
  }
}
