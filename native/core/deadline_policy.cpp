#include "core/deadline_policy.h"

#include <algorithm>
#include <limits>

namespace apar {

// Late is a request that the next step would give its first token too late. One that was moved here has
// tokens.
void DeadlinePolicy::step_begins(std::list<Request>& requests, double now) {
  if (deadlines_.first_token == 0) return;
  const double latest = now + time_.seconds(next_) - deadlines_.first_token;
  for (Request& request : requests)
    request.late = !request.has_run() && request.generated == 0 && request.entered_at < latest;
}

bool DeadlinePolicy::may_fork(const Request& request, const Branch&, const EngineLoad& load) const {
  // A child that waits for a place would hold its answer up, and requests that come later.
  if (load.live_branches >= load.max_branches) return false;
  StepWork work = next_;
  work.decode_rows += forks_ + 1;
  // The child has about as much behind it as the others.
  if (next_.decode_rows > 0) work.attended *= work.decode_rows / next_.decode_rows;
  return time_.seconds(work) <= (&request == tightest_ ? second_ : least_);
}

void DeadlinePolicy::step_ran(std::list<Request>& requests, const StepBatch& batch,
                              std::span<const RequestBranch> samples, const StepRun& run) {
  time_.measured(work_of(batch, static_cast<int32_t>(samples.size())), run.seconds);
  forks_ = 0;
  next_ = {static_cast<double>(samples.size()), time_.other_rows(), 0};
  for (const SequenceRows& sequence : batch.sequences)
    if (sequence.num_rows == 1) next_.attended += sequence.context_length;

  for (Request& request : requests) request.pace.width = 0;
  for (const auto& [request, branch] : samples) ++request->pace.width;
  const double without_forks = time_.seconds(next_);
  tightest_ = nullptr;
  least_ = second_ = std::numeric_limits<double>::infinity();
  for (Request& request : requests) {
    if (request.generated == 0) continue;  // it has no deadline before its first token
    update_pace(request, run.ended_at);
    const double longest = longest_step(request.pace);
    if (longest < without_forks) continue;
    if (longest < least_) {
      second_ = least_;
      least_ = longest;
      tightest_ = &request;
    } else {
      second_ = std::min(second_, longest);
    }
  }
}

void DeadlinePolicy::update_pace(Request& request, double now) const {
  RequestPace& pace = request.pace;
  if (!pace.begun) {
    pace.begun = true;
    pace.since = now;
    pace.tokens = request.generated;
  }
  pace.slack = pace.since + deadlines_.token * (request.generated - pace.tokens) - now;
}

// A request without a row in the step, which waits for blocks, will have one.
double DeadlinePolicy::longest_step(const RequestPace& pace) const {
  return deadlines_.token * std::max(1, pace.width) + std::max(0.0, pace.slack) / kHorizon;
}

}  // namespace apar
