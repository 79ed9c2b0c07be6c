#include "ops/cpu/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace apar::cpu {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
// Memory that is never written uses no pages, so a chunk may be larger than a small model needs.
constexpr size_t kArenaChunk = size_t{64} << 20;

[[noreturn]] void fail(size_t bytes, const char* what) {
  throw Error(ErrorCode::out_of_memory,
              std::string(what) + ": cannot allocate " + std::to_string(bytes) + " bytes");
}

// Fewer page walks while weights and keys stream. Where the system refuses, small pages are used.
void request_huge_pages([[maybe_unused]] std::byte* data, [[maybe_unused]] size_t bytes) {
#ifdef MADV_HUGEPAGE
  ::madvise(data, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
}

}  // namespace

void AlignedDelete::operator()(std::byte* bytes) const {
  if (mapped > 0)
    ::munmap(bytes, mapped);
  else
    ::operator delete[](bytes, alignment);
}

AlignedBytes allocate_uninitialized(size_t bytes, const char* what) {
  const bool huge = bytes >= kHugePage;
  const auto alignment = std::align_val_t{huge ? kHugePage : 64};
  auto* const data = static_cast<std::byte*>(::operator new[](bytes, alignment, std::nothrow));
  if (data == nullptr) fail(bytes, what);
  if (huge) request_huge_pages(data, bytes);
  return AlignedBytes(data, AlignedDelete{alignment});
}

AlignedBytes allocate_aligned(size_t bytes, const char* what) {
  AlignedBytes owner = allocate_uninitialized(bytes, what);
  std::memset(owner.get(), 0, bytes);
  return owner;
}

AlignedBytes reserve_zeroed(size_t bytes, const char* what) {
  if (bytes < kHugePage) return allocate_aligned(bytes, what);
  const size_t size = checked_size({(bytes + kHugePage - 1) / kHugePage, kHugePage});
  size_t padded = 0;
  if (__builtin_add_overflow(size, kHugePage, &padded)) fail(bytes, what);
  void* const mapping = ::mmap(nullptr, padded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) fail(bytes, what);
  // The mapping is cut down to whole huge pages.
  auto* const begin = static_cast<std::byte*>(mapping);
  const size_t head = (kHugePage - reinterpret_cast<uintptr_t>(begin) % kHugePage) % kHugePage;
  if (head > 0) ::munmap(begin, head);
  ::munmap(begin + head + size, kHugePage - head);
  request_huge_pages(begin + head, size);
  return AlignedBytes(begin + head, AlignedDelete{.mapped = size});
}

std::byte* Arena::allocate(size_t bytes, const char* what) {
  bytes = checked_size({(bytes + 63) / 64, 64});
  if (bytes > left_) {
    const size_t chunk = std::max(bytes, kArenaChunk);
    chunks_.push_back(allocate_uninitialized(chunk, what));
    next_ = chunks_.back().get();
    left_ = chunk;
  }
  left_ -= bytes;
  next_ += bytes;
  return next_ - bytes;
}

}  // namespace apar::cpu
