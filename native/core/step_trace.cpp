#include "core/step_trace.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

namespace apar {
namespace {

int32_t saturated(int64_t value) {
  return static_cast<int32_t>(std::min<int64_t>(value, std::numeric_limits<int32_t>::max()));
}

DraftCount total_of(const Request& request) {
  DraftCount total;
  for (const DraftCount& drafts : request.drafts) {
    total.drafted += drafts.drafted;
    total.accepted += drafts.accepted;
  }
  return total;
}

}  // namespace

void StepTrace::enter(Request& request) const {
  if (!request.params.trace) return;
  request.trace = std::make_unique<RequestTrace>();
  request.trace->reported_at = clock_();
}

void StepTrace::count(const Scheduler& scheduler, const StepBatch& batch, int64_t step) {
  traced_.clear();
  step_ = step;
  batch_rows_ = batch.rows();
  used_blocks_ = tree_.pool().num_blocks() - tree_.pool().num_available();
  const auto& owners = scheduler.sequence_owners();
  for (size_t i = 0; i < owners.size(); ++i) {
    Request& request = *owners[i];
    if (request.trace == nullptr) continue;
    RequestTrace& trace = *request.trace;
    if (!trace.counted) {
      traced_.push_back(&request);
      trace.step = {};
      trace.counted = true;
      count_kv(request, trace);
    }
    const SequenceRows& sequence = batch.sequences[i];
    trace.step.rows += sequence.num_rows;
    trace.step.attended += attended_tokens(sequence);
  }
  for (const auto [request, branch] : scheduler.samples()) {
    if (request->trace != nullptr) ++request->trace->step.sampled;
  }
}

// Nodes that branches share count once.
void StepTrace::count_kv(const Request& request, RequestTrace& trace) {
  ++walk_;
  StepFigures& step = trace.step;
  step.live = static_cast<int32_t>(request.live.size());
  for (const Branch* branch : request.live) {
    for (NodeId id = branch->tail; id != kNoNode; id = tree_.at(id).parent) {
      const auto i = static_cast<size_t>(id);
      if (visited_.size() <= i) visited_.resize(i + 1, 0);
      if (visited_[i] == walk_) break;
      visited_[i] = walk_;
      const KvNode& node = tree_.at(id);
      step.cached += node.computed + node.scheduled;
      // A node that begins within a block shares this block with the node above.
      const auto blocks = static_cast<int32_t>(node.blocks.size());
      step.blocks += blocks > 0 && node.first_offset > 0 ? blocks - 1 : blocks;
    }
  }
}

void StepTrace::report(Request& request, bool ends, std::vector<Event>& events) const {
  if (request.trace == nullptr) return;
  RequestTrace& trace = *request.trace;
  if (!trace.counted && !ends) return;
  const bool ran = std::exchange(trace.counted, false);
  const StepFigures step = ran ? trace.step : StepFigures{};
  const auto emit = [&](TraceField field, int64_t a, int64_t b) {
    events.push_back(
        {EventKind::trace, request.params.id, static_cast<int32_t>(field), saturated(a), saturated(b)});
  };
  emit(TraceField::rows, step.rows, ran ? batch_rows_ : 0);
  emit(TraceField::branches, step.live, step.sampled);
  emit(TraceField::blocks, step.blocks, used_blocks_);
  emit(TraceField::tokens, step.attended, step.cached);
  const DraftCount drafts = total_of(request);
  if (drafts.drafted > trace.drafts.drafted)
    emit(TraceField::drafts, drafts.drafted - trace.drafts.drafted, drafts.accepted - trace.drafts.accepted);
  trace.drafts = drafts;
  // The time of a record is in whole microseconds: what is cut off belongs to the next one, so that they add
  // up.
  const auto micros = static_cast<int64_t>((clock_() - trace.reported_at) * 1e6);
  trace.reported_at += static_cast<double>(micros) * 1e-6;
  emit(TraceField::step, step_ % std::numeric_limits<int32_t>::max(), micros);
}

void StepTrace::report_rest(std::vector<Event>& events) {
  for (Request* request : traced_) report(*request, false, events);
  traced_.clear();
}

}  // namespace apar
