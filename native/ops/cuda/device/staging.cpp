#include "ops/cuda/device/staging.h"

#include <algorithm>
#include <cstring>

#include "common/error.h"

namespace apar::cuda {

Staging::Staging(Device& device, size_t piece_bytes) : device_(device), piece_bytes_(piece_bytes) {
  for (std::byte*& piece : pieces_) piece = static_cast<std::byte*>(device.allocate_pinned(piece_bytes));
}

void Staging::stream(void* to, size_t units, size_t unit_bytes, const Fill& fill) {
  if (unit_bytes > piece_bytes_)
    throw Error(ErrorCode::internal, "a row of weights is larger than a staging buffer");
  const size_t max_units = piece_bytes_ / std::max<size_t>(unit_bytes, 1);
  for (size_t first = 0; first < units; first += max_units) {
    const size_t count = std::min(max_units, units - first);
    std::byte* const piece = pieces_[next_];
    fill(first, count, piece);
    device_.synchronize();  // ends the copy from the other buffer, which is filled next
    device_.upload(static_cast<std::byte*>(to) + first * unit_bytes, piece, count * unit_bytes);
    next_ = 1 - next_;
  }
}

void Staging::fetch(void* to, const void* from, size_t bytes) {
  const auto download = [&](size_t first) {
    device_.download(pieces_[first / piece_bytes_ % 2], static_cast<const std::byte*>(from) + first,
                     std::min(piece_bytes_, bytes - first));
  };
  if (bytes > 0) download(0);
  for (size_t first = 0; first < bytes; first += piece_bytes_) {
    device_.synchronize();
    const size_t next = first + piece_bytes_;
    if (next < bytes) download(next);
    std::memcpy(static_cast<std::byte*>(to) + first, pieces_[first / piece_bytes_ % 2],
                std::min(piece_bytes_, bytes - first));
  }
}

}  // namespace apar::cuda
