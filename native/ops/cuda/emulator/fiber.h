#pragma once

#include <ucontext.h>

#include <cstddef>
#include <functional>
#include <memory>

namespace apar::cuda::emulate {

// A function with a stack of its own that can be left and entered again, on one OS thread.
class Fiber {
 public:
  Fiber();
  Fiber(Fiber&&) = default;

  // The body of the next resume(); what an earlier body had left to do is forgotten.
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

// Leaves the running fiber for whoever resumed it.
void yield_fiber();

}  // namespace apar::cuda::emulate
