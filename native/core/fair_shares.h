#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace apar {

// On whose behalf a request runs: the owner of an API key. Requests that name none belong to tenant 0.
struct TenantParams {
  int32_t id = 0;
  float weight = 1;      // of its share of the engine; > 0
  int32_t priority = 0;  // tenants with a larger one are served first
};

struct Branch;
struct Request;

struct RequestBranch {
  Request* request;
  Branch* branch;
};

struct Tenant {
  int32_t id = 0;
  float weight = 1;
  int32_t priority = 0;
  int32_t requests = 0;               // that have not ended
  double virtual_rows = 0;            // computed for it, divided by its weight
  int64_t token_step = 0;             // when a branch of it last got a token, or its first request came
  int32_t begun_in_time = 0;          // requests, since one that is late began (deadline_policy.h)
  const Request* promoted = nullptr;  // a late one whose turn it is in the current step

  // Of the step that is being scheduled, if it has several tenants.
  std::vector<RequestBranch> live;  // in order of arrival
  bool may_admit = true;            // false when its first waiting branch found no room
  int32_t running = 0;              // branches that are not gated
  int32_t held_blocks = 0;          // by its running branches
  int32_t demand = 0;               // rows that it could use
  int32_t passed_over = 0;          // of its branches, because the step has no sample for them
  int32_t allotted = 0;             // rows that it gets
};

// Shares the rows of steps among tenants: weighted fair queueing with a virtual counter for each tenant, as
// in "Fairness in Serving Large Language Models" (VTC, OSDI 2024). The tenant with the smallest counter is
// served next and charged for the rows that it uses. A tenant that wants less than its share saves nothing
// up: its counter is lifted to that of the tenants that want more, also when it comes back after it was idle.
class FairShares {
 public:
  // A request of the tenant has come or ended. The newest request's weight and priority are the tenant's.
  Tenant& enter(const TenantParams& params, int64_t step);
  void leave(Tenant& tenant);

  // Tenants with requests.
  int32_t num_active() const { return num_active_; }
  bool has_several() const { return num_active_ > 1; }
  // In order of id.
  std::span<Tenant* const> active();
  // The weight of all active tenants together.
  double total_weight();

  // Divides `rows` by the tenants' `demand` into `allotted`: by priority, then by counter.
  void allot(int32_t rows);
  // The step has used this many rows of the tenant.
  static void charge(Tenant& tenant, int32_t rows) { tenant.virtual_rows += rows / tenant.weight; }
  // After charge(): lifts the counters of tenants that got all they wanted.
  void lift();

 private:
  void forget_idle();

  std::unordered_map<int32_t, Tenant> tenants_;
  std::vector<Tenant*> active_;
  bool active_is_stale_ = false;
  int32_t num_active_ = 0;
  double floor_ = 0;  // the smallest counter of tenants that wanted more, at the last step that had any
};

}  // namespace apar
