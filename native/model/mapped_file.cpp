#include "model/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "common/error.h"

namespace apar {
namespace {

[[noreturn]] void refuse(const std::string& path, const char* what) {
  throw Error(ErrorCode::invalid_weights, path + ": " + what);
}

// For all pages that overlap `bytes`.
void advise(std::span<const std::byte> bytes, int advice) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto first = reinterpret_cast<uintptr_t>(bytes.data()), begin = first / page * page;
  ::madvise(reinterpret_cast<void*>(begin), first + bytes.size() - begin, advice);
}

}  // namespace

void read_ahead(std::span<const std::byte> bytes) {
  advise(bytes, MADV_WILLNEED);
}

void release_pages(std::span<const std::byte> bytes) {
  advise(bytes, MADV_DONTNEED);
}

MappedFile::MappedFile(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) refuse(path, std::strerror(errno));
  struct stat status = {};
  const bool regular = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
  const size_t size = regular ? static_cast<size_t>(status.st_size) : 0;
  // mmap() refuses a length of 0, but an empty file is allowed here.
  void* const data = size > 0 ? ::mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, 0) : nullptr;
  const int error = errno;
  ::close(descriptor);
  if (!regular) refuse(path, "not a regular file");
  if (data == MAP_FAILED && error == ENOMEM)
    throw Error(ErrorCode::out_of_memory, path + ": cannot map " + std::to_string(size) + " bytes");
  if (data == MAP_FAILED) refuse(path, std::strerror(error));
  bytes_ = {static_cast<const std::byte*>(data), size};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace apar
