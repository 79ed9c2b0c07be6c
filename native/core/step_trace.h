#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/kv_tree.h"
#include "core/request.h"
#include "core/scheduler.h"

namespace apar {

// Fields of a trace event; the values are shared with TypeScript (gpu-node/engine/engine-events.ts), which
// defines `a` and `b` for each. `step` comes last and ends the record of the step.
enum class TraceField : int32_t { step = 1, rows = 2, branches = 3, blocks = 4, tokens = 5, drafts = 6 };

// Records what each step computes for the requests that asked for it (RequestParams::trace): one record for
// each step in which the request has rows, behind the events of its tokens, forks and ends. A request without
// `trace` costs nothing.
class StepTrace {
 public:
  StepTrace(const KvTree& tree, std::function<double()> clock) : tree_(tree), clock_(std::move(clock)) {}

  // The time of the request's first record counts from here.
  void enter(Request& request) const;
  // After Scheduler::build_batch(): what this step, counted from 0, is going to compute.
  void count(const Scheduler& scheduler, const StepBatch& batch, int64_t step);
  // Appends the record of the step for a request that has rows in it, or of the time behind its last step
  // when it `ends`. At most once in a step.
  void report(Request& request, bool ends, std::vector<Event>& events) const;
  // Those of all requests that the step has not reported.
  void report_rest(std::vector<Event>& events);

 private:
  void count_kv(const Request& request, RequestTrace& trace);

  const KvTree& tree_;
  const std::function<double()> clock_;
  // Of the step.
  std::vector<Request*> traced_;
  int64_t step_ = 0;
  int32_t batch_rows_ = 0;
  int32_t used_blocks_ = 0;
  // [node]: the number of the last walk that came by.
  std::vector<int64_t> visited_;
  int64_t walk_ = 0;
};

}  // namespace apar
