#include "ops/cpu/host_memory.h"

#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <limits>
#include <map>
#include <optional>
#include <sstream>

namespace apar::cpu {
namespace {

constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();

uint64_t left_of(uint64_t limit, uint64_t used) {
  return limit > used ? limit - used : 0;
}

// The first word of a file as a number. "max" is kUnlimited, and so is a number that does not fit.
std::optional<uint64_t> read_number(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  if (!(file >> word)) return std::nullopt;
  if (word == "max") return kUnlimited;
  std::istringstream digits(word);
  uint64_t number = 0;
  if (digits >> number) return number;
  return word.find_first_not_of("0123456789") == std::string::npos ? std::optional(kUnlimited) : std::nullopt;
}

// Lines such as "MemAvailable:  24093000 kB" or "inactive_file 4096".
std::map<std::string, uint64_t> read_fields(const std::string& path) {
  std::ifstream file(path);
  std::map<std::string, uint64_t> fields;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name, unit;
    uint64_t value = 0;
    if (!(words >> name >> value)) continue;
    if (name.back() == ':') name.pop_back();
    fields[name] = words >> unit && unit == "kB" ? value * 1024 : value;
  }
  return fields;
}

void take_less(FreeMemory& least, uint64_t bytes, const char* source) {
  if (bytes < least.bytes) least = {bytes, source};
}

// The files of the two versions of the memory controller.
struct Controller {
  const char* mount;
  const char *limit, *usage;
  const char *active, *inactive;  // page cache, in memory.stat; v1 has a total over the groups below
};
constexpr Controller kV2 = {"/sys/fs/cgroup", "memory.max", "memory.current", "active_file", "inactive_file"};
constexpr Controller kV1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                            "total_active_file", "total_inactive_file"};

void limit_by_group(FreeMemory& least, const Controller& controller, const std::string& folder) {
  const auto limit = read_number(folder + "/" + controller.limit);
  const auto usage = read_number(folder + "/" + controller.usage);
  if (!limit || !usage || *limit == kUnlimited) return;
  auto stat = read_fields(folder + "/memory.stat");
  const uint64_t cache = stat[controller.active] + stat[controller.inactive];
  take_less(least, left_of(*limit, left_of(*usage, cache)), "the memory limit of the cgroup");
}

// The group and all groups above it. In a container the group's path may be the host's, while the mount shows
// only the container's own group, at the root.
void limit_by_groups(FreeMemory& least, const Controller& controller, const std::string& root,
                     std::string group) {
  const std::string mount = root + controller.mount;
  while (!group.empty() && group != "/") {
    limit_by_group(least, controller, mount + group);
    group.resize(group.rfind('/'));
  }
  limit_by_group(least, controller, mount);
}

// Lines of /proc/self/cgroup: "4:memory:/group" in v1, "0::/group" in v2.
void limit_by_cgroups(FreeMemory& least, const std::string& root) {
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = ',' + line.substr(first + 1, second - first - 1) + ',';
    const std::string group = line.substr(second + 1);
    if (!group.empty() && group.front() != '/') continue;
    if (controllers == ",,") limit_by_groups(least, kV2, root, group);
    if (controllers.find(",memory,") != std::string::npos) limit_by_groups(least, kV1, root, group);
  }
}

void limit_by_system(FreeMemory& least, const std::string& root) {
  const auto system = read_fields(root + "/proc/meminfo");
  const auto field = [&](const char* name) {
    const auto found = system.find(name);
    return found == system.end() ? std::nullopt : std::optional(found->second);
  };
  if (const auto available = field("MemAvailable"))
    take_less(least, *available, "the available memory of the system");
  const auto limit = field("CommitLimit"), committed = field("Committed_AS");
  constexpr uint64_t kStrict = 2;
  if (limit && committed && read_number(root + "/proc/sys/vm/overcommit_memory") == kStrict)
    take_less(least, left_of(*limit, *committed), "the commit limit of the system");
}

void limit_by_address_space(FreeMemory& least, const std::string& root) {
  rlimit limit = {};
  if (::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return;
  // The first field is the size of the address space in pages.
  const auto pages = read_number(root + "/proc/self/statm");
  if (!pages) return;
  take_less(least, left_of(limit.rlim_cur, *pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE))),
            "the limit of the address space");
}

}  // namespace

FreeMemory free_host_memory(const std::string& root) {
  FreeMemory least = {kUnlimited, ""};
  limit_by_system(least, root);
  limit_by_cgroups(least, root);
  limit_by_address_space(least, root);
  if (least.bytes != kUnlimited) return least;
  const auto pages = static_cast<uint64_t>(std::max(0L, ::sysconf(_SC_PHYS_PAGES)));
  return {pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)) / 2, "half of the physical memory"};
}

}  // namespace apar::cpu
