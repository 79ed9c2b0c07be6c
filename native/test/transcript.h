#pragma once

#include <bit>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/request.h"

namespace apar {

// Builds the branch tree of a request from its events and checks the order of events that
// gpu-node/engine/engine-events.ts specifies.
struct Transcript {
  struct BranchText {
    int32_t parent = -1;
    std::vector<int32_t> path;  // the prompt and all tokens down to the branch's last one
    size_t own_from = 0;        // index of the branch's first own token in path
    FinishReason reason = FinishReason::none;
    int32_t ended_by = -1;   // the token that ended the branch
    int32_t end_token = -1;  // the same, where the request asks for its log-probability
  };

  explicit Transcript(std::vector<int32_t> prompt) {
    branches[kRootBranch].own_from = prompt.size();
    branches[kRootBranch].path = std::move(prompt);
  }

  // Returns "" or the rule that the event breaks.
  std::string apply(const Event& event) {
    if (finish != FinishReason::none) return "event after finish";
    if (event.kind == EventKind::finish) {
      finish = static_cast<FinishReason>(event.a);
      for (const auto& [id, branch] : branches) {
        if (branch.reason == FinishReason::none) return "finish before a branch ended";
      }
      return "";
    }
    if (speculated && event.kind != EventKind::speculation) return "event between speculation and finish";
    if (event.kind == EventKind::speculation) {
      for (const auto& [id, branch] : branches) {
        if (branch.reason == FinishReason::none) return "speculation before a branch ended";
      }
      if (event.a <= 0 || event.b < 0 || event.b > event.a) return "wrong counts of speculation";
      speculated = true;
      drafted += event.a;
      accepted += event.b;
      return "";
    }
    if (event.kind == EventKind::prompt_logprob) {
      if (tokens > 0) return "log-probability of the prompt after a token";
      prompt_logprobs[event.branch].push_back({event.a, std::bit_cast<float>(event.b)});
      return "";
    }
    const auto found = branches.find(event.branch);
    if (found == branches.end()) return "unknown branch";
    BranchText& branch = found->second;
    if (branch.reason != FinishReason::none) return "event after branch_end";
    switch (event.kind) {
      case EventKind::token:
        branch.path.push_back(event.a);
        ++tokens;
        break;
      case EventKind::fork: {
        if (branches.contains(event.a)) return "branch id used twice";
        if (event.b != static_cast<int32_t>(branch.path.size()) - 1) return "wrong fork position";
        BranchText child;
        child.parent = event.branch;
        child.path = branch.path;
        child.own_from = branch.path.size();
        branches.emplace(event.a, std::move(child));
        break;
      }
      case EventKind::end_token:
        branch.end_token = event.a;
        break;
      case EventKind::logprob:
        logprobs.push_back({event.a, std::bit_cast<float>(event.b)});
        break;
      default:
        branch.reason = static_cast<FinishReason>(event.a);
        branch.ended_by = event.b - 1;
    }
    return "";
  }

  int depth(int32_t id) const {
    int depth = 1;
    while ((id = branches.at(id).parent) >= 0) ++depth;
    return depth;
  }

  std::map<int32_t, BranchText> branches;
  FinishReason finish = FinishReason::none;
  int tokens = 0;
  bool speculated = false;
  int drafted = 0, accepted = 0;
  std::vector<std::pair<int32_t, float>> logprobs;
  std::map<int32_t, std::vector<std::pair<int32_t, float>>> prompt_logprobs;  // [position]: its token's first
};

}  // namespace apar
