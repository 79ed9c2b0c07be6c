#include "ops/cuda/emulator/fiber.h"

#include <cstdint>
#include <utility>
#include <vector>

// swapcontext also saves the signal mask with a system call, and a kernel switches fibers millions of times.
// With AddressSanitizer it clears the shadow of a whole stack besides; there, a hand-written switch is
// announced instead.
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
#define APAR_FAST_SWITCH 1
#endif

#if defined(APAR_FAST_SWITCH) && defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define APAR_ANNOUNCE_SWITCH 1
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
  // What AddressSanitizer keeps of either stack while the other one runs.
  void* own_frames = nullptr;
  void* caller_frames = nullptr;
  const void* caller_stack = nullptr;
  size_t caller_stack_bytes = 0;

  static void enter();
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

#ifdef APAR_ANNOUNCE_SWITCH
static void leaving(void** frames, const void* to, size_t to_bytes) {
  __sanitizer_start_switch_fiber(frames, to, to_bytes);
}
static void arrived(void* frames, const void** from, size_t* from_bytes) {
  __sanitizer_finish_switch_fiber(frames, from, from_bytes);
}
// The frames of an earlier body have left their red zones.
static void forget_frames(void* stack) {
  __asan_unpoison_memory_region(stack, kStackBytes);
}
#else
static void leaving(void**, const void*, size_t) {}
static void arrived(void*, const void**, size_t*) {}
static void forget_frames(void*) {}
#endif

void Fiber::State::enter() {
  auto* const state = static_cast<State*>(current);
  arrived(nullptr, &state->caller_stack, &state->caller_stack_bytes);
  run_body(*starting);
}

void Fiber::start(std::function<void()> body) {
  state_->body = std::move(body);
  forget_frames(state_->stack.data());
  const auto top = reinterpret_cast<uintptr_t>(state_->stack.data() + kStackBytes) & ~uintptr_t{15};
  auto* slots = reinterpret_cast<void**>(top) - 8;
  for (int i = 0; i < 6; ++i) slots[i] = nullptr;     // the registers that are popped
  slots[6] = reinterpret_cast<void*>(&State::enter);  // the return address of `ret`
  slots[7] = nullptr;                                 // aligns the stack as after a call
  state_->own = slots;
}

void Fiber::resume() {
  current = state_.get();
  starting = &state_->body;
  leaving(&state_->caller_frames, state_->stack.data(), kStackBytes);
  apar_switch_stack(&state_->caller, &state_->own);
  arrived(state_->caller_frames, nullptr, nullptr);
}

void yield_fiber() {
  auto* const state = static_cast<Fiber::State*>(current);
  leaving(&state->own_frames, state->caller_stack, state->caller_stack_bytes);
  apar_switch_stack(&state->own, &state->caller);
  arrived(state->own_frames, &state->caller_stack, &state->caller_stack_bytes);
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
