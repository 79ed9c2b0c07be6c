#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace apar {

// The KV pool's blocks, by number. A block has one owner, or two where a parent branch goes on inside the
// block in which its fork lies.
class BlockPool {
 public:
  explicit BlockPool(int32_t num_blocks) : refs_(static_cast<size_t>(num_blocks), 0) {
    free_.reserve(refs_.size());
    for (int32_t block = num_blocks - 1; block >= 0; --block) free_.push_back(block);
  }

  int32_t num_blocks() const { return static_cast<int32_t>(refs_.size()); }
  int32_t num_free() const { return static_cast<int32_t>(free_.size()); }
  int32_t refs(int32_t block) const { return refs_[static_cast<size_t>(block)]; }

  // nullopt when the pool is dry.
  std::optional<int32_t> allocate() {
    if (free_.empty()) return std::nullopt;
    const int32_t block = free_.back();
    free_.pop_back();
    refs_[static_cast<size_t>(block)] = 1;
    return block;
  }

  void share(int32_t block) { ++refs_[static_cast<size_t>(block)]; }

  void release(int32_t block) {
    if (--refs_[static_cast<size_t>(block)] == 0) free_.push_back(block);
  }

 private:
  std::vector<int32_t> refs_;
  std::vector<int32_t> free_;
};

}  // namespace apar
