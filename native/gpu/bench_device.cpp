// Times whole steps of one model on a device, one JSON line per case on standard output.
//
// Standard input: a model job (tools/model_job.h), and in any order
//   seconds S                     per case; at least 5 steps are timed
//   decode ROWS SHARED OWN        ROWS branches of one prompt of SHARED tokens write their OWN-th token
//   sample ROWS SHARED OWN T P    the same with temperature T and top_p P, where the device draws tokens
//   prefill TOKENS                a prompt's TOKENS in one step
// A step is a forward pass and what it hands back: the drawn tokens where the device draws, else the logits.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <map>
#include <sstream>
#include <vector>

#include "bench/profiled_ops.h"
#include "core/error.h"
#include "model/llama.h"
#include "tools/model_job.h"

using namespace apar;

namespace {

constexpr int32_t kWarmUpSteps = 3;  // the second one records the graph
constexpr size_t kMinSamples = 5;

struct Case {
  std::string name;
  int32_t rows = 0, shared = 0, own = 0;  // a prompt: shared alone
  TokenDraw draw;                         // greedy but for `sample`
};

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Tokens and KV nodes of one step. What lies in the pool from before is zero: a kernel's time does not depend
// on it.
class Step {
 public:
  explicit Step(const Case& c, int32_t vocab) {
    const int32_t root = add_node(c.shared);
    if (c.own == 0) {
      add_sequence({root}, c.shared, c.rows);
      logit_rows_.push_back(c.rows - 1);
    }
    for (int32_t row = 0; c.own > 0 && row < c.rows; ++row) {
      add_sequence({root, add_node(c.own)}, c.shared + c.own, 1);
      logit_rows_.push_back(row);
    }
    for (size_t i = 0; i < positions_.size(); ++i) tokens_.push_back(static_cast<int32_t>(i * 7919 % vocab));
    for (size_t i = 0; i < blocks_.size(); ++i) nodes_.push_back({blocks_[i], 0, lengths_[i]});
  }

  int32_t num_blocks() const { return num_blocks_; }
  StepBatch batch() const { return {tokens_, positions_, slots_, sequences_, nodes_, path_, logit_rows_}; }

 private:
  int32_t add_node(int32_t tokens) {
    auto& blocks = blocks_.emplace_back();
    for (int32_t i = 0; i < tokens; i += kBlockTokens) blocks.push_back(num_blocks_++);
    lengths_.push_back(tokens);
    return static_cast<int32_t>(blocks_.size()) - 1;
  }
  void add_sequence(std::vector<int32_t> path, int32_t context, int32_t rows) {
    sequences_.push_back({static_cast<int32_t>(positions_.size()), rows, static_cast<int32_t>(path_.size()),
                          static_cast<int32_t>(path.size()), context});
    path_.insert(path_.end(), path.begin(), path.end());
    const std::vector<int32_t>& blocks = blocks_[path.back()];
    const int32_t first = context - lengths_[path.back()];
    for (int32_t position = context - rows; position < context; ++position) {
      positions_.push_back(position);
      const int32_t at = position - first;
      slots_.push_back(blocks[at / kBlockTokens] * kBlockTokens + at % kBlockTokens);
    }
  }

  int32_t num_blocks_ = 0;
  std::vector<std::vector<int32_t>> blocks_;
  std::vector<int32_t> lengths_, tokens_, positions_, slots_, path_, logit_rows_;
  std::vector<SequenceRows> sequences_;
  std::vector<KvNodeView> nodes_;
};

struct Plan {
  double seconds = 1;
  std::vector<Case> cases;
};

Plan read_plan(const ModelJob& job) {
  Plan plan;
  for (const std::string& line : job.others) {
    std::istringstream words(line);
    std::string key;
    Case c;
    words >> key;
    if (key == "seconds") {
      words >> plan.seconds;
    } else if (key == "decode") {
      words >> c.rows >> c.shared >> c.own;
    } else if (key == "sample") {
      words >> c.rows >> c.shared >> c.own >> c.draw.temperature >> c.draw.top_p;
    } else if (key == "prefill") {
      words >> c.shared;
      c.rows = c.shared;
    } else {
      words.setstate(std::ios::failbit);
    }
    if (words.fail()) throw Error(ErrorCode::invalid_config, "cannot read the line: " + line);
    c.name = line;
    if (c.rows > 0) plan.cases.push_back(c);
  }
  return plan;
}

std::vector<TokenDraw> draws_of(const Case& c, size_t rows) {
  std::vector<TokenDraw> draws(rows, c.draw);
  for (size_t row = 0; row < rows; ++row) draws[row].uniform = (row + 0.5) / static_cast<double>(rows);
  return draws;
}

void time_case(Model& model, const Case& c, double seconds, std::map<std::string, double>& profile) {
  if (c.draw.temperature > 0 && !model.draws()) {
    std::printf(
        "{\"part\":\"bench\",\"case\":\"%s\",\"result\":\"skipped\",\"why\":\"this device hands out "
        "logits\"}\n",
        c.name.c_str());
    return;
  }
  const Step rows_and_nodes(c, model.config().vocab_size);
  const StepBatch batch = rows_and_nodes.batch();
  const size_t rows = batch.logit_rows.size();
  std::vector<float> logits(model.draws() ? 0 : rows * static_cast<size_t>(model.config().vocab_size));
  const std::vector<TokenDraw> draws = draws_of(c, rows);
  std::vector<DrawnToken> drawn(rows);
  const auto step = [&] { model.draws() ? model.draw(batch, draws, drawn) : model.forward(batch, logits); };
  for (int32_t i = 0; i < kWarmUpSteps; ++i) step();
  profile.clear();
  std::vector<double> samples;
  for (const double end = now_s() + seconds; samples.size() < kMinSamples || now_s() < end;) {
    const double start = now_s();
    step();
    samples.push_back(now_s() - start);
  }
  double total = 0, waited = profile["logits"];  // on the device; what is left is the host's
  for (const double sample : samples) total += sample;
  std::sort(samples.begin(), samples.end());
  const double median = samples[samples.size() / 2];
  std::printf(
      "{\"part\":\"bench\",\"case\":\"%s\",\"tokens_per_s\":%.1f,\"step_us\":%.1f,\"p5_us\":%.1f,\"p95_us\":%"
      ".1f,"
      "\"host_share\":%.4f,\"steps\":%zu}\n",
      c.name.c_str(), c.rows / median, median * 1e6, samples[samples.size() / 20] * 1e6,
      samples[samples.size() * 19 / 20] * 1e6, 1 - waited / total, samples.size());
  std::fflush(stdout);
}

void run() {
  const ModelJob job = read_model_job(std::cin);
  const Plan plan = read_plan(job);
  int32_t blocks = 1, rows = 1;
  for (const Case& c : plan.cases) {
    blocks = std::max(blocks, Step(c, job.config.vocab_size).num_blocks());
    rows = std::max(rows, c.rows);
  }
  std::map<std::string, double> profile;
  const auto fallback = std::make_shared<std::string>();
  const MakeOps device = make_ops_on(job.device, job.threads, fallback, job.devices);
  const double opened = now_s();
  const auto model = open_llama(
      job.config, job.weights, job.format(), blocks, rows,
      [&](const OpsConfig& config) { return std::make_unique<bench::ProfiledOps>(device(config), profile); });
  std::printf("{\"part\":\"bench\",\"case\":\"open\",\"device\":\"%s\",\"dtype\":\"%s\",\"seconds\":%.2f}\n",
              model->device().c_str(), to_string(job.dtype), now_s() - opened);
  for (const Case& c : plan.cases) time_case(*model, c, plan.seconds, profile);
}

}  // namespace

int main() {
  try {
    run();
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
