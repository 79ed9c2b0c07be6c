#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <utility>

namespace apar {

// A read-only memory mapping of a file, for the lifetime of this object. The file must not shrink during that
// time: reading past its new end would crash the process.
class MappedFile {
 public:
  // Throws Error{invalid_weights} or Error{out_of_memory} that names the path.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

// Advice to the system about a part of a mapping: to read it ahead, while something else is computed; and
// that its pages are not needed soon, so that they no longer count as this process's memory. Both change no
// data.
void read_ahead(std::span<const std::byte> bytes);
void release_pages(std::span<const std::byte> bytes);

}  // namespace apar
