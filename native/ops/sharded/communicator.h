#pragma once

#include <cstdint>

namespace apar {

// How the devices that share a model add up partial results. Every rank has one and calls it from its own
// thread, all of them in the same order.
class Communicator {
 public:
  virtual ~Communicator() = default;

  // y[rows, width], in memory from the rank's Ops::allocate(), becomes the sum over all ranks, added in the
  // order of ranks: the same bits on every rank, and in a row whatever runs beside it. Takes effect in order
  // with the rank's operations. Throws Error{internal} on a failure.
  virtual void all_reduce(float* y, int32_t rows, int32_t width) = 0;

  // Another rank has failed and will call no more: whoever waits for it gets an Error{internal}. Any thread.
  virtual void abort() = 0;
};

}  // namespace apar
