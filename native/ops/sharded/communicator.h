#pragma once

#include <cstdint>

namespace apar {

// Adds partial results across the devices that share a model. Every rank has its own communicator and calls
// it from its own thread. All ranks make the same calls in the same order.
class Communicator {
 public:
  virtual ~Communicator() = default;

  // Replaces y[rows, width], in memory from the rank's Ops::allocate(), by the sum over all ranks. The sum is
  // added in the order of ranks, so it has the same bits on every rank, and a row's bits do not depend on
  // other rows. Takes effect in order with the rank's operations. Throws Error{internal} on a failure.
  virtual void all_reduce(float* y, int32_t rows, int32_t width) = 0;

  // Another rank has failed and will make no more calls: ranks that wait for it throw Error{internal}. Can be
  // called from any thread.
  virtual void abort() = 0;
};

}  // namespace apar
