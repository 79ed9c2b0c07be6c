#pragma once

#include <doctest/doctest.h>

#ifdef APAR_TEST_ON_DEVICE

namespace apar::test {

// A device chooses the order of threads itself.
template <class Run>
auto in_either_order(Run run) {
  return run();
}

}  // namespace apar::test

#else

#include "ops/cuda/emulator/emulate.h"

namespace apar::test {

// Runs a kernel twice: with threads and blocks from first to last, and from last to first. Different results
// show a missing barrier. Returns the first result.
template <class Run>
auto in_either_order(Run run) {
  auto forward = run();
  cuda::emulate::order = cuda::emulate::Order::backward;
  const auto backward = run();
  cuda::emulate::order = cuda::emulate::Order::forward;
  CHECK(forward == backward);
  return forward;
}

}  // namespace apar::test

#endif
