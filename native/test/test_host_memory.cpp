// The free memory of the host, from copies of the files in /proc and /sys.
#include <doctest/doctest.h>

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "common/error.h"
#include "ops/cpu/host_memory.h"
#include "ops/cpu/memory.h"
#include "test/random_model.h"

using namespace apar;
using namespace apar::cpu;
using namespace apar::test;

namespace {

constexpr uint64_t kMiB = 1 << 20;

class FakeSystem {
 public:
  FakeSystem() { write("/proc/meminfo", "MemTotal: 9000000 kB\nMemAvailable:    8388608 kB\n"); }

  void write(const std::string& path, const std::string& text) {
    const auto file = root_.path() / path.substr(1);
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  void remove(const std::string& path) { std::filesystem::remove(root_.path() / path.substr(1)); }

  // A group with this limit and usage, and this much page cache within the usage, half of it active.
  void add_v2(const std::string& group, const std::string& limit, uint64_t usage, uint64_t cache) {
    const std::string folder = "/sys/fs/cgroup" + group;
    write(folder + "/memory.max", limit + "\n");
    write(folder + "/memory.current", std::to_string(usage) + "\n");
    write(folder + "/memory.stat", "anon 1\nactive_file " + std::to_string(cache / 2) + "\ninactive_file " +
                                       std::to_string(cache / 2) + "\n");
  }
  void add_v1(const std::string& group, uint64_t limit, uint64_t usage, uint64_t cache) {
    const std::string folder = "/sys/fs/cgroup/memory" + group;
    write(folder + "/memory.limit_in_bytes", std::to_string(limit) + "\n");
    write(folder + "/memory.usage_in_bytes", std::to_string(usage) + "\n");
    write(folder + "/memory.stat", "inactive_file 7\ntotal_active_file " + std::to_string(cache / 2) +
                                       "\ntotal_inactive_file " + std::to_string(cache / 2) + "\n");
  }

  // In MiB.
  uint64_t free() const { return memory().bytes / kMiB; }
  FreeMemory memory() const { return free_host_memory(root_.path().string()); }

 private:
  TempDir root_;
};

}  // namespace

TEST_CASE("without limits: what the system has available") {
  FakeSystem system;
  CHECK(system.free() == 8192);
  CHECK(system.memory().source.find("system") != std::string::npos);
}

TEST_CASE("cgroup v2: the smallest limit on the way to the root, with page cache counted as available") {
  FakeSystem system;
  system.write("/proc/self/cgroup", "0::/slice/service\n");
  system.add_v2("/slice/service", "max", 500 * kMiB, 0);
  CHECK(system.free() == 8192);
  system.add_v2("/slice/service", std::to_string(2048 * kMiB), 500 * kMiB, 200 * kMiB);
  CHECK(system.free() == 2048 - 300);
  CHECK(system.memory().source.find("cgroup") != std::string::npos);
  system.add_v2("/slice", std::to_string(1024 * kMiB), 900 * kMiB, 0);
  CHECK(system.free() == 124);
  system.add_v2("/slice", std::to_string(1024 * kMiB), 1100 * kMiB, 0);
  CHECK(system.free() == 0);
}

TEST_CASE("cgroup v1: also in a container that sees only its own group at the root") {
  FakeSystem system;
  system.write("/proc/self/cgroup", "5:cpu:/docker/abc\n4:cpuacct,memory:/docker/abc\n0::/\n");
  system.add_v1("", uint64_t{9223372036854771712u}, 100 * kMiB, 0);
  CHECK(system.free() == 8192);
  system.add_v1("", 512 * kMiB, 100 * kMiB, 40 * kMiB);
  CHECK(system.free() == 512 - 60);
  system.add_v1("/docker/abc", 256 * kMiB, 100 * kMiB, 0);
  CHECK(system.free() == 156);
}

TEST_CASE("strict overcommit: what is left of the commit limit") {
  FakeSystem system;
  system.write("/proc/meminfo",
               "MemAvailable: 8388608 kB\nCommitLimit: 4194304 kB\nCommitted_AS: 1048576 kB\n");
  system.write("/proc/sys/vm/overcommit_memory", "0\n");
  CHECK(system.free() == 8192);
  system.write("/proc/sys/vm/overcommit_memory", "2\n");
  CHECK(system.free() == 3072);
}

TEST_CASE("a limit of the address space counts, and a reservation beyond it is refused") {
  constexpr uint64_t kSpare = uint64_t{512} << 20;
  std::ifstream statm("/proc/self/statm");
  uint64_t pages = 0;
  if (!(statm >> pages)) {
    MESSAGE("skipped: the size of the address space is not known");
    return;
  }
  rlimit before = {};
  REQUIRE(::getrlimit(RLIMIT_AS, &before) == 0);
  rlimit limit = before;
  limit.rlim_cur = pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)) + kSpare;
  REQUIRE(::setrlimit(RLIMIT_AS, &limit) == 0);
  const FreeMemory memory = free_host_memory();
  std::string refused;
  try {
    reserve_zeroed(2 * kSpare, "KV pool");
  } catch (const Error& error) {
    refused = std::string(to_string(error.code())) + ": " + error.what();
  }
  REQUIRE(::setrlimit(RLIMIT_AS, &before) == 0);
  CHECK(memory.bytes <= kSpare);
  CHECK(refused == "out_of_memory: KV pool: cannot allocate 1073741824 bytes");
}

TEST_CASE("reserved memory is zeroed and aligned") {
  for (const size_t bytes : {size_t{1}, size_t{4096}, (size_t{2} << 20) - 1, (size_t{6} << 20) + 100}) {
    const AlignedBytes memory = reserve_zeroed(bytes, "test");
    CHECK(reinterpret_cast<uintptr_t>(memory.get()) % 64 == 0);
    CHECK(std::all_of(memory.get(), memory.get() + bytes, [](std::byte b) { return b == std::byte{0}; }));
    memory[bytes - 1] = std::byte{1};
  }
}

TEST_CASE("files that are missing, cut off or nonsense are no limit") {
  FakeSystem system;
  system.write("/proc/self/cgroup", "nonsense\n0:\n0::relative\n:::\n0::/a\n4:memory:/b\n");
  system.write("/sys/fs/cgroup/a/memory.max", "");
  system.write("/sys/fs/cgroup/a/memory.current", "12");
  system.write("/sys/fs/cgroup/memory/b/memory.limit_in_bytes", "a lot");
  system.write("/sys/fs/cgroup/memory/b/memory.usage_in_bytes", "-1");
  CHECK(system.free() == 8192);
  system.remove("/proc/meminfo");
  const FreeMemory memory = system.memory();
  CHECK(memory.source.find("half of the physical") != std::string::npos);
  CHECK(memory.bytes > 0);
}
