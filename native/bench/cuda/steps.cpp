// Times whole steps of one model on a device and prints one JSON line per case on standard output.
//
// Standard input: a model job (tools/model_job.h), and in any order
//   seconds S                     per case; at least 5 steps are timed
//   decode ROWS SHARED OWN        ROWS branches of one prompt of SHARED tokens generate their OWN-th token
//   sample ROWS SHARED OWN T P    the same with temperature T and top_p P, where the device samples tokens
//   prefill TOKENS                TOKENS tokens of a prompt in one step
// A step is a forward pass and the copy of its result: the sampled tokens where the device samples, else the
// logits. The KV pool holds the keys and values that the model computed for the earlier tokens.
//
// step_us is measured around a step by the host's clock. device_us is measured by the device, from the launch
// of the step's graph (without a graph: from the upload of the step's data) to the end of the last kernel.
// host_share is the part of step_us outside device_us.
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <sstream>
#include <utility>
#include <vector>

#include "bench/clock.h"
#include "common/error.h"
#include "model/llama.h"
#include "tools/model_job.h"

using namespace apar;
using bench::now_s;

namespace {

constexpr int32_t kWarmUpSteps = 3;  // the second one captures the graph
constexpr size_t kMinSamples = 5;
constexpr int32_t kMinFillRows = 2048;  // of a step that fills the KV pool

struct Case {
  std::string name;
  int32_t rows = 0, shared = 0, own = 0;  // own is 0 for `prefill`
  TokenDraw draw;                         // greedy except for `sample`
};

// The KV nodes of a prompt and the branches below it, and the steps that compute their tokens.
class Tree {
 public:
  Tree(const Case& c, int32_t vocab) : vocab_(vocab), shared_(c.shared) {
    add_node(c.shared);
    for (int32_t row = 0; c.own > 0 && row < c.rows; ++row) add_node(c.own);
    for (size_t i = 0; i < blocks_.size(); ++i) nodes_.push_back({blocks_[i], 0, lengths_[i]});
  }

  int32_t num_blocks() const { return num_blocks_; }

  // Owns the data that its batch refers to.
  struct Step {
    std::vector<int32_t> tokens, positions, slots, path, logit_rows;
    std::vector<SequenceRows> sequences;
    StepBatch batch(const std::vector<KvNodeView>& nodes) const {
      return {tokens, positions, slots, sequences, nodes, path, logit_rows};
    }
  };

  // The step that is timed: the last token of every branch, or the whole prompt.
  Step timed() const {
    Step step;
    if (lengths_.size() == 1) add_sequence(step, 0, shared_, shared_);
    for (size_t node = 1; node < lengths_.size(); ++node)
      add_sequence(step, static_cast<int32_t>(node), lengths_[node], 1);
    for (const SequenceRows& sequence : step.sequences)
      step.logit_rows.push_back(sequence.first_row + sequence.num_rows - 1);
    return step;
  }

  // Computes all tokens, the prompt first, in steps of up to max_rows() rows.
  void fill(Model& model) const {
    for (int32_t end = 0; end < shared_;) {
      const int32_t rows = std::min(shared_ - end, model.max_rows());
      Step step;
      add_sequence(step, 0, end += rows, rows);
      run(model, step);
    }
    Step step;
    for (size_t node = 1; node < lengths_.size(); ++node) {
      if (static_cast<int32_t>(step.tokens.size()) + lengths_[node] > model.max_rows())
        run(model, std::exchange(step, {}));
      add_sequence(step, static_cast<int32_t>(node), lengths_[node], lengths_[node]);
    }
    run(model, step);
  }

  const std::vector<KvNodeView>& nodes() const { return nodes_; }

 private:
  void run(Model& model, const Step& step) const {
    if (!step.tokens.empty()) model.forward(step.batch(nodes_), {});
  }
  void add_node(int32_t tokens) {
    auto& blocks = blocks_.emplace_back();
    for (int32_t i = 0; i < tokens; i += kBlockTokens) blocks.push_back(num_blocks_++);
    lengths_.push_back(tokens);
  }
  // Adds the last `rows` of the first `end` tokens of a node to a step.
  void add_sequence(Step& step, int32_t node, int32_t end, int32_t rows) const {
    const int32_t first = node == 0 ? 0 : shared_;
    const auto path_begin = static_cast<int32_t>(step.path.size());
    if (node > 0) step.path.push_back(0);
    step.path.push_back(node);
    step.sequences.push_back({static_cast<int32_t>(step.tokens.size()), rows, path_begin,
                              static_cast<int32_t>(step.path.size()) - path_begin, first + end});
    for (int32_t at = end - rows; at < end; ++at) {
      // Arbitrary tokens that differ between branches and between positions.
      step.tokens.push_back(static_cast<int32_t>((int64_t{node} * 104729 + at * 7919 + 17) % vocab_));
      step.positions.push_back(first + at);
      step.slots.push_back(blocks_[node][at / kBlockTokens] * kBlockTokens + at % kBlockTokens);
    }
  }

  int32_t vocab_, shared_;
  int32_t num_blocks_ = 0;
  std::vector<std::vector<int32_t>> blocks_;
  std::vector<int32_t> lengths_;
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

double percentile(std::vector<double>& samples, size_t percent) {
  std::sort(samples.begin(), samples.end());
  return samples[samples.size() * percent / 100];
}

void time_case(Model& model, Ops& ops, const Case& c, double seconds) {
  if (c.draw.temperature > 0 && !model.draws()) {
    std::printf("{\"case\":\"%s\",\"result\":\"skipped\",\"why\":\"this device does not sample tokens\"}\n",
                c.name.c_str());
    return;
  }
  const Tree tree(c, model.config().vocab_size);
  tree.fill(model);
  const Tree::Step timed = tree.timed();
  const StepBatch batch = timed.batch(tree.nodes());
  const size_t rows = batch.logit_rows.size();
  std::vector<float> logits(model.draws() ? 0 : rows * static_cast<size_t>(model.config().vocab_size));
  const std::vector<TokenDraw> draws = draws_of(c, rows);
  std::vector<DrawnToken> drawn(rows);
  const auto step = [&] { model.draws() ? model.draw(batch, draws, drawn) : model.forward(batch, logits); };
  for (int32_t i = 0; i < kWarmUpSteps; ++i) step();
  std::vector<double> wall, device;
  for (const double end = now_s() + seconds; wall.size() < kMinSamples || now_s() < end;) {
    const double start = now_s();
    step();
    wall.push_back(now_s() - start);
    device.push_back(ops.step_seconds());
  }
  const double median = percentile(wall, 50), on_device = percentile(device, 50);
  std::printf("{\"case\":\"%s\",\"tokens_per_s\":%.1f,\"step_us\":%.1f,\"p5_us\":%.1f,\"p95_us\":%.1f,",
              c.name.c_str(), c.rows / median, median * 1e6, percentile(wall, 5) * 1e6,
              percentile(wall, 95) * 1e6);
  if (on_device > 0)
    std::printf("\"device_us\":%.1f,\"host_share\":%.4f,", on_device * 1e6, 1 - on_device / median);
  std::printf("\"steps\":%zu}\n", wall.size());
  std::fflush(stdout);
}

void run() {
  const ModelJob job = read_model_job(std::cin);
  const Plan plan = read_plan(job);
  int32_t blocks = 1, rows = 1;
  for (const Case& c : plan.cases) {
    blocks = std::max(blocks, Tree(c, job.config.vocab_size).num_blocks());
    rows = std::max({rows, c.rows, std::min(kMinFillRows, c.shared + c.rows * c.own)});
  }
  const auto fallback = std::make_shared<std::string>();
  const MakeOps on_device = make_ops_on(job.device, job.threads, fallback, job.devices);
  Ops* ops = nullptr;
  const double opened = now_s();
  const auto model =
      open_llama(job.config, job.weights, job.format(), blocks, rows, [&](const OpsConfig& config) {
        OpsConfig timed = config;
        timed.time_steps = true;
        auto made = on_device(timed);
        ops = made.get();
        return made;
      });
  std::printf("{\"case\":\"open\",\"device\":\"%s\",\"seconds\":%.2f}\n", model->device().c_str(),
              now_s() - opened);
  std::fflush(stdout);
  for (const Case& c : plan.cases) time_case(*model, *ops, c, plan.seconds);
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
