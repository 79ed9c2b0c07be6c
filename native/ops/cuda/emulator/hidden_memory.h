#pragma once

#include <cstddef>
#include <vector>

namespace apar::cuda {

// Memory that a kernel must not access until earlier kernels have ended. While it is hidden, an access makes
// the emulated run fail (emulate::fail()) instead of ending the process. One object at a time is active on an
// OS thread.
class HiddenMemory {
 public:
  // Whole pages.
  struct Pages {
    void* begin;
    size_t bytes;
  };
  explicit HiddenMemory(std::vector<Pages> pages);
  ~HiddenMemory();
  HiddenMemory(const HiddenMemory&) = delete;
  HiddenMemory& operator=(const HiddenMemory&) = delete;

  void hide();
  void show();
  bool holds(const void* address) const;

 private:
  std::vector<Pages> pages_;
};

}  // namespace apar::cuda
