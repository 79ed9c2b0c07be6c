#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <new>
#include <vector>

#include "common/error.h"

namespace apar::cpu {

// The product of the factors. Throws Error{out_of_memory} on overflow: no allocation of that size can
// succeed.
inline size_t checked_size(std::initializer_list<uint64_t> factors) {
  size_t product = 1;
  for (const uint64_t factor : factors)
    if (__builtin_mul_overflow(product, factor, &product))
      throw Error(ErrorCode::out_of_memory, "a buffer's size does not fit 64 bits");
  return product;
}

struct AlignedDelete {
  std::align_val_t alignment{64};
  size_t mapped = 0;  // bytes of a memory mapping; 0 for memory from operator new
  void operator()(std::byte* bytes) const;
};
using AlignedBytes = std::unique_ptr<std::byte[], AlignedDelete>;

// Allocates memory aligned to 64 bytes. Large allocations are aligned to huge pages, which are requested from
// the system. Throws Error{out_of_memory} that names `what`.
AlignedBytes allocate_uninitialized(size_t bytes, const char* what);

// The same, zeroed, so that the system has provided all pages before the first step.
AlignedBytes allocate_aligned(size_t bytes, const char* what);

// The same, zeroed, but the system provides a page when it is first used. For memory that is sized for the
// most that may ever be needed: whoever sizes it has checked that so much is free (engine/memory_plan.h).
AlignedBytes reserve_zeroed(size_t bytes, const char* what);

// Memory for many allocations that live as long as the arena. Small ones share huge pages.
class Arena {
 public:
  // Uninitialized, aligned to 64 bytes. Throws Error{out_of_memory}.
  std::byte* allocate(size_t bytes, const char* what);

 private:
  std::vector<AlignedBytes> chunks_;
  std::byte* next_ = nullptr;
  size_t left_ = 0;
};

}  // namespace apar::cpu
