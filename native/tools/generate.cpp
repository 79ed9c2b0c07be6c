// Decodes prompts in parallel branches and prints the tokens, to compare devices (native/gpu/verify).
//
// Standard input: a model job (model_job.h) and, in any order:
//   control FORK CHILD EOS...     ids of the control tokens; FORK and CHILD are -1 for a model without forks
//   limits MAX_TOKENS MAX_BRANCHES MAX_DEPTH      of each request, as in core/request.h
//   step MAX_TOKENS MAX_BRANCHES  rows of one forward pass; branches of all requests that may run at once
//   blocks N                      size of the KV pool
//   gaps on|off                   default off; with `on` the host samples, also if the device could
//   prompt N ID...                one line per request
// All prompts are submitted at once and decoded greedily.
//
// Standard output: one JSON line per request and one with totals.
//   {"request":0,"finish":"stop","branches":[
//     {"branch":1,"parent":0,"start":23,"finish":"stop","tokens":[...],"gaps":[...]}]}
// `start` is the position of a branch's first token: after the prompt, or after its [Fork] in the parent. A
// gap is the difference between the token's logit and the next lower one that is not masked; null for the
// forced [Child]. EOS tokens are not part of a branch, so they have no gap.
#include <bit>
#include <chrono>
#include <cmath>
#include <exception>
#include <iostream>
#include <limits>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "common/error.h"
#include "core/decoder.h"
#include "model/llama.h"
#include "tools/model_job.h"

namespace {

using namespace apar;

constexpr float kNoGap = std::numeric_limits<float>::quiet_NaN();
// [Fork] and [Child] may be masked: at least two of the four are the sampled token and the next lower one.
constexpr int32_t kRankedTokens = 4;

struct Plan {
  DecoderConfig decoder;
  RequestParams limits;
  int32_t blocks = 0;
  bool gaps = false;
  std::vector<std::vector<int32_t>> prompts;
};

std::vector<int32_t> read_rest(std::istringstream& words) {
  std::vector<int32_t> values;
  for (int32_t value; words >> value;) values.push_back(value);
  words.clear(words.eof() ? std::ios::eofbit : std::ios::failbit);
  return values;
}

Plan read_plan(const ModelJob& job) {
  Plan plan;
  for (const std::string& line : job.others) {
    std::istringstream words(line);
    std::string key, value;
    words >> key;
    if (key == "control") {
      words >> plan.decoder.tokens.fork >> plan.decoder.tokens.child;
      if (!words.fail()) plan.decoder.tokens.eos = read_rest(words);
    } else if (key == "limits") {
      words >> plan.limits.max_tokens >> plan.limits.max_branches >> plan.limits.max_depth;
    } else if (key == "step") {
      words >> plan.decoder.max_step_tokens >> plan.decoder.max_branches;
    } else if (key == "blocks") {
      words >> plan.blocks;
    } else if (key == "gaps") {
      words >> value;
      plan.gaps = value == "on";
      if (value != "on" && value != "off") words.setstate(std::ios::failbit);
    } else if (key == "prompt") {
      size_t count = 0;
      words >> count;
      if (!words.fail()) plan.prompts.push_back(read_rest(words));
      if (words.fail() || plan.prompts.back().size() != count) words.setstate(std::ios::failbit);
    } else {
      words.setstate(std::ios::failbit);
    }
    if (words.fail()) throw Error(ErrorCode::invalid_config, "cannot read the line: " + line.substr(0, 80));
  }
  if (plan.prompts.empty()) throw Error(ErrorCode::invalid_config, "the line `prompt N ID...` is missing");
  if (plan.blocks < 1) throw Error(ErrorCode::invalid_config, "the line `blocks N` is missing");
  return plan;
}

const char* to_string(FinishReason reason) {
  switch (reason) {
    case FinishReason::none:
      return "none";
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::abort:
      return "abort";
    case FinishReason::error:
      return "error";
    case FinishReason::not_finite:
      return "not_finite";
    case FinishReason::unmatched:
      return "unmatched";
  }
  return "unknown";
}

struct BranchRecord {
  int32_t parent = -1;
  int32_t start = 0;
  std::vector<int32_t> tokens;
  std::vector<float> gaps;  // [tokens]
  float logprob = kNoGap;   // of the newest token; NaN until its event
  FinishReason finish = FinishReason::none;
};

// Collects the events of one request.
class Record {
 public:
  Record(int32_t prompt_tokens, int32_t child_token) : child_token_(child_token) {
    branches_.emplace_back().start = prompt_tokens;
  }

  void add(const Event& event) {
    if (event.kind == EventKind::speculation) return;  // of no branch
    BranchRecord& branch = branches_.at(static_cast<size_t>(event.branch));
    switch (event.kind) {
      case EventKind::token:
        branch.tokens.push_back(event.a);
        branch.gaps.push_back(kNoGap);
        branch.logprob = kNoGap;
        break;
      case EventKind::logprob:
        add_logprob(branch, event.a, std::bit_cast<float>(event.b));
        break;
      case EventKind::fork: {
        if (static_cast<size_t>(event.a) != branches_.size())
          throw Error(ErrorCode::internal, "the id of a child is not the next one");
        BranchRecord& child = branches_.emplace_back();  // `branch` is no longer valid
        child.parent = event.branch;
        child.start = event.b + 1;
        break;
      }
      case EventKind::branch_end:
        branch.finish = static_cast<FinishReason>(event.a);
        break;
      case EventKind::finish:
        finish_ = static_cast<FinishReason>(event.a);
        break;
      case EventKind::speculation:
      case EventKind::prompt_logprob:
      case EventKind::trace:
      case EventKind::end_token:
        break;
    }
  }

  void print(std::ostream& out, size_t request, bool gaps) const {
    out << "{\"request\":" << request << ",\"finish\":\"" << to_string(finish_) << "\",\"branches\":[";
    for (size_t i = 0; i < branches_.size(); ++i) {
      const BranchRecord& branch = branches_[i];
      out << (i > 0 ? "," : "") << "{\"branch\":" << i << ",\"parent\":";
      branch.parent < 0 ? out << "null" : out << branch.parent;
      out << ",\"start\":" << branch.start << ",\"finish\":\"" << to_string(branch.finish)
          << "\",\"tokens\":";
      print_list(out, branch.tokens);
      if (gaps) print_list(out << ",\"gaps\":", branch.gaps);
      out << '}';
    }
    out << "]}\n";
  }

 private:
  // The sampled token comes first, then the most likely ones. With greedy decoding a likelier one was masked.
  void add_logprob(BranchRecord& branch, int32_t token, float logprob) const {
    if (std::isnan(branch.logprob)) {
      branch.logprob = logprob;
    } else if (std::isnan(branch.gaps.back()) && token != branch.tokens.back() && token != child_token_ &&
               logprob <= branch.logprob) {
      branch.gaps.back() = branch.logprob - logprob;
    }
  }

  template <class Value>
  static void print_list(std::ostream& out, const std::vector<Value>& values) {
    const char* before = "[";
    for (const Value value : values) {
      out << std::exchange(before, ",");
      std::isfinite(static_cast<float>(value)) ? out << value : out << "null";
    }
    out << (values.empty() ? "[]" : "]");
  }

  int32_t child_token_;
  std::vector<BranchRecord> branches_;  // index = branch id
  FinishReason finish_ = FinishReason::none;
};

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void run() {
  const ModelJob job = read_model_job(std::cin);
  const Plan plan = read_plan(job);
  const double begun = now_s();
  const auto model =
      open_llama(job.config, job.weights, job.format(), plan.blocks, plan.decoder.max_step_tokens,
                 make_ops_on(job.device, job.threads, std::make_shared<std::string>(), job.devices));
  Decoder decoder(*model, plan.decoder);
  std::vector<Record> records;
  for (const std::vector<int32_t>& prompt : plan.prompts) {
    records.emplace_back(static_cast<int32_t>(prompt.size()), plan.decoder.tokens.child);
    RequestParams params = plan.limits;
    params.id = static_cast<int32_t>(records.size());  // ids are positive
    params.prompt = prompt;
    params.logprobs = plan.gaps ? kRankedTokens : -1;
    decoder.submit(std::move(params));
  }
  const double opened = now_s();
  std::vector<Event> events;
  while (decoder.step(events)) {
    for (const Event& event : events) records.at(static_cast<size_t>(event.request) - 1).add(event);
    events.clear();
  }
  const double seconds = now_s() - opened;
  if (!decoder.idle()) throw Error(ErrorCode::internal, "the decoder has requests, but nothing to compute");
  decoder.check_integrity();

  for (size_t i = 0; i < records.size(); ++i) records[i].print(std::cout, i, plan.gaps);
  const DecoderStats stats = decoder.stats();
  const char* const drawn_on = model->draws() && !plan.gaps ? "device" : "host";
  std::cout << "{\"device\":\"" << model->device() << "\",\"drawn_on\":\"" << drawn_on
            << "\",\"open_seconds\":" << opened - begun << ",\"seconds\":" << seconds
            << ",\"steps\":" << stats.steps << ",\"tokens\":" << stats.generated_tokens
            << ",\"prefill_tokens\":" << stats.prefill_tokens
            << ",\"cached_prompt_tokens\":" << stats.cached_prompt_tokens << ",\"forks\":" << stats.forks
            << ",\"forks_refused\":" << stats.forks_refused << ",\"preemptions\":" << stats.preemptions
            << "}\n";
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
