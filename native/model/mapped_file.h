#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <utility>

namespace apar {

// A file's bytes, read-only, for as long as this object lives. The file must not shrink meanwhile: reading
// past its new end would end the process.
class MappedFile {
 public:
  // Throws Error{invalid_weights} naming the path.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace apar
