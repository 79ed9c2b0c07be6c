#pragma once

#include <ucontext.h>

#include <cstddef>
#include <functional>
#include <memory>

namespace apar::cuda::emulate {

// A function with its own stack that can be suspended and resumed, on one OS thread.
class Fiber {
 public:
  Fiber();
  Fiber(Fiber&&) = default;

  // Sets the body that the next resume() starts. An earlier body is discarded, even if it has not ended.
  void start(std::function<void()> body);
  // Runs the body until it yields or ends.
  void resume();

 private:
  friend void yield_fiber();
  struct State;
  struct Delete {
    void operator()(State* state) const;
  };
  std::unique_ptr<State, Delete> state_;
};

// Suspends the running fiber and returns to the caller of resume().
void yield_fiber();

}  // namespace apar::cuda::emulate
