#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>

namespace apar {

// An array for tests that ends at a page boundary, before a guard page without access: a kernel that reads or
// writes past the end crashes. Initialised to 0xff bytes, which are NaN in f32 and bf16.
template <class T>
class Guarded {
 public:
  explicit Guarded(size_t size) : size_(size) {
    const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    const size_t used = (size * sizeof(T) + page - 1) / page * page;
    mapped_ = used + page;
    base_ = ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base_ == MAP_FAILED) throw std::bad_alloc();
    std::memset(base_, 0xff, used);
    ::mprotect(static_cast<std::byte*>(base_) + used, page, PROT_NONE);
    data_ = reinterpret_cast<T*>(static_cast<std::byte*>(base_) + used - size * sizeof(T));
  }
  ~Guarded() { ::munmap(base_, mapped_); }
  Guarded(const Guarded&) = delete;

  T* data() const { return data_; }
  // The pages of the array.
  void* pages() const { return base_; }
  size_t page_bytes() const { return mapped_ - static_cast<size_t>(::sysconf(_SC_PAGESIZE)); }
  size_t size() const { return size_; }
  T& operator[](size_t index) const { return data_[index]; }
  T* begin() const { return data_; }
  T* end() const { return data_ + size_; }

 private:
  size_t size_, mapped_ = 0;
  void* base_ = nullptr;
  T* data_ = nullptr;
};

}  // namespace apar
