#pragma once

#include <cstdint>

#include "core/request.h"

namespace apar {

// What a request shares among its branches, max_tokens and max_branches, is given out in virtual order
// (docs/adr/0028): as if each step gave every live branch one token, the branches in order of id. How far a
// branch really is depends on the load. A branch that is ahead waits where its next token could depend on the
// branches behind it.

enum class When : uint8_t {
  now,        // for the branches as they are
  next_step,  // which can first bring forward those at the same virtual time that are ready and open
};

// Whether the next token of `branch` has to wait.
bool must_wait(const Request& request, const Branch& branch, When when);

// Whether a [Fork] of `branch` has to wait, because a branch behind it could fork first: ids are given in
// virtual order.
bool fork_must_wait(const Request& request, const Branch& branch, When when);

// How many branches are live when `branch` gets its next token in virtual order.
int32_t live_at(const Request& request, const Branch& branch);

// Removes from `recent` the branches that ended before the next token of every live branch: live_at() never
// counts them again, because that moment only moves on.
void forget_past(Request& request);

// Sets what a child derives from its [Fork]: the parent's own token `own_index`, at `position` in its path.
void begin_child(const Branch& parent, int32_t own_index, int32_t position, Branch& child);

}  // namespace apar
