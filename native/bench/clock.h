#pragma once

#include <chrono>

namespace apar::bench {

// Seconds of a clock that never goes back, from an unspecified start.
inline double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace apar::bench
