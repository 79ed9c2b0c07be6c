#pragma once

#include <string>

#include "ops/device_memory.h"

namespace apar::cpu {

// The host memory that this process can still take without being killed: the smallest of
//   - the system's available memory (MemAvailable of /proc/meminfo; page cache counts as available),
//   - with strict overcommit (vm.overcommit_memory = 2), the part of the commit limit that is left,
//   - what is left of the memory limit of the process's cgroup and of every group above it, v1 and v2, where
//     the group's page cache counts as available too,
//   - what is left of the process's address space (ulimit -v).
// Where none of them can be read, as on macOS: half of the physical memory. `root` is put before the paths of
// /proc and /sys, for tests.
FreeMemory free_host_memory(const std::string& root = "");

}  // namespace apar::cpu
