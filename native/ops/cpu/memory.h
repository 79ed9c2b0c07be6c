#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <new>
#include <string>

#include "core/error.h"

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
  void operator()(std::byte* bytes) const { ::operator delete[](bytes, std::align_val_t{64}); }
};
using AlignedBytes = std::unique_ptr<std::byte[], AlignedDelete>;

// Zeroed, so that the pages are really there before the first step. Throws Error{out_of_memory} naming
// `what`.
inline AlignedBytes allocate_aligned(size_t bytes, const char* what) {
  auto* const data = static_cast<std::byte*>(::operator new[](bytes, std::align_val_t{64}, std::nothrow));
  if (data == nullptr)
    throw Error(ErrorCode::out_of_memory,
                std::string(what) + ": cannot allocate " + std::to_string(bytes) + " bytes");
  AlignedBytes owner(data);
  std::memset(data, 0, bytes);
  return owner;
}

}  // namespace apar::cpu
