#include "core/fair_shares.h"

#include <algorithm>
#include <limits>
#include <queue>

namespace apar {
namespace {

// Idle tenants whose counters are remembered before they are looked through.
constexpr size_t kMaxIdle = 256;

}  // namespace

Tenant& FairShares::enter(const TenantParams& params, int64_t step) {
  if (tenants_.size() >= static_cast<size_t>(num_active_) + kMaxIdle) forget_idle();
  Tenant& tenant = tenants_[params.id];
  active_.reserve(tenants_.size());
  tenant.id = params.id;
  tenant.weight = params.weight;
  tenant.priority = params.priority;
  if (tenant.requests++ > 0) return tenant;
  ++num_active_;
  active_is_stale_ = true;
  tenant.virtual_rows = std::max(tenant.virtual_rows, floor_);
  tenant.token_step = step;
  return tenant;
}

void FairShares::leave(Tenant& tenant) {
  if (--tenant.requests > 0) return;
  --num_active_;
  active_is_stale_ = true;
}

// A counter above the floor is a debt, which a tenant must find again when it comes back.
void FairShares::forget_idle() {
  const double floor = num_active_ == 0 ? std::numeric_limits<double>::infinity() : floor_;
  std::erase_if(tenants_, [&](const auto& entry) {
    return entry.second.requests == 0 && entry.second.virtual_rows <= floor;
  });
}

std::span<Tenant* const> FairShares::active() {
  if (!active_is_stale_) return active_;
  active_.clear();
  for (auto& [id, tenant] : tenants_) {
    if (tenant.requests > 0) active_.push_back(&tenant);
  }
  std::sort(active_.begin(), active_.end(), [](const Tenant* a, const Tenant* b) { return a->id < b->id; });
  active_is_stale_ = false;
  return active_;
}

double FairShares::total_weight() {
  double total = 0;
  for (const Tenant* tenant : active()) total += tenant->weight;
  return total;
}

void FairShares::allot(int32_t rows) {
  struct Turn {
    double counter;
    Tenant* tenant;
  };
  // Of tenants with equal counters, the one that wants least comes first: it delays the others least.
  const auto later = [](const Turn& a, const Turn& b) {
    if (a.tenant->priority != b.tenant->priority) return a.tenant->priority < b.tenant->priority;
    if (a.counter != b.counter) return a.counter > b.counter;
    if (a.tenant->demand != b.tenant->demand) return a.tenant->demand > b.tenant->demand;
    return a.tenant->id > b.tenant->id;
  };
  std::priority_queue<Turn, std::vector<Turn>, decltype(later)> turns(later);
  for (Tenant* tenant : active()) {
    tenant->allotted = 0;
    if (tenant->demand > 0) turns.push({tenant->virtual_rows, tenant});
  }
  while (rows > 0 && !turns.empty()) {
    const auto [counter, tenant] = turns.top();
    turns.pop();
    // The last tenant left needs no turns.
    const int32_t left = tenant->demand - tenant->allotted;
    const int32_t taken = turns.empty() ? std::min(rows, left) : 1;
    tenant->allotted += taken;
    rows -= taken;
    if (taken < left) turns.push({counter + taken / tenant->weight, tenant});
  }
}

void FairShares::lift() {
  double smallest = std::numeric_limits<double>::infinity(), largest = 0;
  for (const Tenant* tenant : active()) {
    if (tenant->demand > tenant->allotted) smallest = std::min(smallest, tenant->virtual_rows);
    largest = std::max(largest, tenant->virtual_rows);
  }
  // When all got what they wanted, nobody owes anybody anything.
  const bool enough = smallest == std::numeric_limits<double>::infinity();
  floor_ = std::max(floor_, enough ? largest : smallest);
  for (Tenant* tenant : active()) {
    if (enough || tenant->demand <= tenant->allotted)
      tenant->virtual_rows = std::max(tenant->virtual_rows, floor_);
  }
}

}  // namespace apar
