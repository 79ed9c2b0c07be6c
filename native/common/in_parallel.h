#pragma once

#include <algorithm>
#include <cstddef>
#include <thread>
#include <vector>

namespace apar {

// Calls body(i) for every i in [0, count) on all cores, at most 16: for work while a model loads. `body` must
// not throw.
template <class Body>
void in_parallel(size_t count, Body body) {
  constexpr size_t kMaxWorkers = 16;
  const auto cores = std::clamp<size_t>(std::thread::hardware_concurrency(), 1, kMaxWorkers);
  const size_t workers = std::min(cores, count);
  const auto every = [&](size_t begin) {
    for (size_t i = begin; i < count; i += workers) body(i);
  };
  std::vector<std::jthread> others;
  for (size_t worker = 1; worker < workers; ++worker) others.emplace_back(every, worker);
  if (workers > 0) every(0);
}

}  // namespace apar
