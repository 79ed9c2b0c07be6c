#include "ops/cuda/emulator/hidden_memory.h"

#include <sys/mman.h>
#include <csignal>
#include <utility>

#include "ops/cuda/emulator/emulate.h"

namespace apar::cuda {
namespace {

thread_local HiddenMemory* active = nullptr;
struct sigaction before;

// A kernel's own access has raised the signal, so nothing else is interrupted. It is repeated after this.
void on_access(int signal, siginfo_t* info, void* /*context*/) {
  if (active == nullptr || !active->holds(info->si_addr)) {
    ::sigaction(signal, &before, nullptr);  // not ours: the repeated access ends the process as usual
    return;
  }
  active->show();
  emulate::fail("a kernel accesses what earlier kernels may write before it has waited for them");
}

}  // namespace

HiddenMemory::HiddenMemory(std::vector<Pages> pages) : pages_(std::move(pages)) {
  active = this;
  struct sigaction mine = {};
  mine.sa_sigaction = on_access;
  mine.sa_flags = SA_SIGINFO | SA_NODEFER;
  ::sigaction(SIGSEGV, &mine, &before);
}

HiddenMemory::~HiddenMemory() {
  show();
  ::sigaction(SIGSEGV, &before, nullptr);
  active = nullptr;
}

void HiddenMemory::hide() {
  for (const auto& [begin, bytes] : pages_) ::mprotect(begin, bytes, PROT_NONE);
}

void HiddenMemory::show() {
  for (const auto& [begin, bytes] : pages_) ::mprotect(begin, bytes, PROT_READ | PROT_WRITE);
}

bool HiddenMemory::holds(const void* address) const {
  for (const auto& [begin, bytes] : pages_)
    if (address >= begin && address < static_cast<std::byte*>(begin) + bytes) return true;
  return false;
}

}  // namespace apar::cuda
