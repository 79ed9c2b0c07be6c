#include "ops/cuda/emulator/fiber.h"

#include <cstdint>
#include <utility>
#include <vector>

// swapcontext also saves the signal mask with a system call, and a kernel switches fibers millions of times.
// Sanitizers support swapcontext but not a hand-written switch.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define APAR_FAST_SWITCH 1
#endif

#ifdef APAR_FAST_SWITCH
// Saves the callee-saved registers and the stack pointer in *from and resumes at the state saved in *to
// (System V ABI).
extern "C" void apar_switch_stack(void** from, void** to);
asm(R"(
.text
.globl apar_switch_stack
.type apar_switch_stack, @function
apar_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq (%rsi), %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size apar_switch_stack, .-apar_switch_stack
)");
#endif

namespace apar::cuda::emulate {

constexpr size_t kStackBytes = 128 * 1024;

struct Fiber::State {
  std::vector<std::byte> stack = std::vector<std::byte>(kStackBytes);
  std::function<void()> body;
#ifdef APAR_FAST_SWITCH
  void* own = nullptr;
  void* caller = nullptr;
#else
  ucontext_t own, caller;
#endif
};

namespace {

thread_local void* current = nullptr;  // the Fiber::State of the running fiber

}  // namespace

void Fiber::Delete::operator()(State* state) const {
  delete state;
}

Fiber::Fiber() : state_(new State) {}

static void run_body(std::function<void()>& body) {
  body();
  for (;;) yield_fiber();
}

#ifdef APAR_FAST_SWITCH

static thread_local std::function<void()>* starting = nullptr;

static void enter() {
  run_body(*starting);
}

void Fiber::start(std::function<void()> body) {
  state_->body = std::move(body);
  const auto top = reinterpret_cast<uintptr_t>(state_->stack.data() + kStackBytes) & ~uintptr_t{15};
  auto* slots = reinterpret_cast<void**>(top) - 8;
  for (int i = 0; i < 6; ++i) slots[i] = nullptr;  // the registers that are popped
  slots[6] = reinterpret_cast<void*>(&enter);      // the return address of `ret`
  slots[7] = nullptr;                              // aligns the stack as after a call
  state_->own = slots;
}

void Fiber::resume() {
  current = state_.get();
  starting = &state_->body;
  apar_switch_stack(&state_->caller, &state_->own);
}

void yield_fiber() {
  auto* const state = static_cast<Fiber::State*>(current);
  apar_switch_stack(&state->own, &state->caller);
}

#else

static thread_local std::function<void()>* starting = nullptr;

static void enter() {
  run_body(*starting);
}

void Fiber::start(std::function<void()> body) {
  state_->body = std::move(body);
  getcontext(&state_->own);
  state_->own.uc_stack.ss_sp = state_->stack.data();
  state_->own.uc_stack.ss_size = kStackBytes;
  state_->own.uc_link = nullptr;
  makecontext(&state_->own, enter, 0);
}

void Fiber::resume() {
  current = state_.get();
  starting = &state_->body;
  swapcontext(&state_->caller, &state_->own);
}

void yield_fiber() {
  auto* const state = static_cast<Fiber::State*>(current);
  swapcontext(&state->own, &state->caller);
}

#endif

}  // namespace apar::cuda::emulate
