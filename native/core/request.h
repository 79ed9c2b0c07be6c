#pragma once

#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "core/kv_tree.h"
#include "core/sampler.h"

namespace apar {

constexpr int32_t kRootBranch = 0;

// The numbers cross the boundary to TypeScript (gpu-node/engine/engine-events.ts).
enum class FinishReason : int32_t { none = 0, stop = 1, length = 2, abort = 3, error = 4 };
enum class EventKind : int32_t { token = 1, fork = 2, branch_end = 3, finish = 4, logprob = 5 };

struct Event {
  EventKind kind;
  int32_t request;
  int32_t branch;
  int32_t a = 0;
  int32_t b = 0;
};

// A branch that another engine began: its own tokens so far, [Fork] and the forced [Child] included.
struct RestoredBranch {
  int32_t id = kRootBranch;
  int32_t parent = -1;
  int32_t fork_position = -1;  // of [Fork] in the parent's path, the prompt included; -1 for the root
  std::vector<int32_t> tokens;
  FinishReason ended = FinishReason::none;
};

struct RequestParams {
  int32_t id = 0;
  std::vector<int32_t> prompt;
  int32_t max_tokens = 0;    // new tokens of all branches together
  int32_t max_branches = 1;  // alive at once, the root included
  int32_t max_depth = 1;     // the root has depth 1
  SamplerParams sampling;
  std::vector<int32_t> stop_tokens;
  int32_t max_branch_tokens = 0;  // new tokens of one branch; 0 is no limit of its own
  int32_t logprobs = -1;          // likeliest tokens to report beside the chosen one's; -1 reports none
  std::vector<std::pair<int32_t, float>> logit_bias;
  std::vector<RestoredBranch> branches;  // in order of id, the root first; empty: a new request
};

enum class BranchState : uint8_t {
  waiting,  // has its tokens but no blocks: new, or pre-empted
  running,  // pins its path
  ended,
};

struct Branch {
  int32_t id = kRootBranch;
  int32_t parent = -1;
  int32_t depth = 1;
  NodeId tail = kNoNode;
  uint64_t key = 0;  // of its random numbers
  int32_t last_token = -1;
  int32_t generated = 0;  // new tokens of its own
  BranchState state = BranchState::waiting;
  bool planned = false;    // has rows in the step being planned
  bool preempted = false;  // waits because it was set aside
};

struct Request {
  RequestParams params;
  std::deque<Branch> branches;                // all there ever were; index = id
  std::vector<Branch*> live;                  // in order of id
  int32_t cached_tokens = -1;                 // of the prompt, found computed when it first ran; -1 before
  int32_t generated = 0;                      // new tokens so far, forced ones included
  FinishReason outcome = FinishReason::stop;  // length once a branch was cut short; abort or error for all

  int32_t budget() const { return params.max_tokens - generated; }
};

}  // namespace apar
