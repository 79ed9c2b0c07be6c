#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <new>
#include <vector>

#include "common/error.h"

namespace apar::cpu {

// The product, or Error{out_of_memory} when it does not fit: a size that large cannot be had either.
inline size_t checked_size(std::initializer_list<uint64_t> factors) {
  size_t product = 1;
  for (const uint64_t factor : factors)
    if (__builtin_mul_overflow(product, factor, &product))
      throw Error(ErrorCode::out_of_memory, "a buffer's size does not fit 64 bits");
  return product;
}

struct AlignedDelete {
  std::align_val_t alignment{64};
  void operator()(std::byte* bytes) const { ::operator delete[](bytes, alignment); }
};
using AlignedBytes = std::unique_ptr<std::byte[], AlignedDelete>;

// Aligned to 64 bytes; large ones to huge pages, which the system is asked for. Throws Error{out_of_memory}
// naming `what`.
AlignedBytes allocate_uninitialized(size_t bytes, const char* what);

// The same, zeroed, so that the pages are really there before the first step.
AlignedBytes allocate_aligned(size_t bytes, const char* what);

// Memory for many blocks that live as long as it does: small ones share huge pages.
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
