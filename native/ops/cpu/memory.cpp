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

}  // namespace

AlignedBytes allocate_uninitialized(size_t bytes, const char* what) {
  const bool huge = bytes >= kHugePage;
  const auto alignment = std::align_val_t{huge ? kHugePage : 64};
  auto* const data = static_cast<std::byte*>(::operator new[](bytes, alignment, std::nothrow));
  if (data == nullptr)
    throw Error(ErrorCode::out_of_memory,
                std::string(what) + ": cannot allocate " + std::to_string(bytes) + " bytes");
#ifdef MADV_HUGEPAGE
  // Fewer page walks while weights stream. Where the system refuses, small pages are used.
  if (huge) ::madvise(data, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  return AlignedBytes(data, AlignedDelete{alignment});
}

AlignedBytes allocate_aligned(size_t bytes, const char* what) {
  AlignedBytes owner = allocate_uninitialized(bytes, what);
  std::memset(owner.get(), 0, bytes);
  return owner;
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
