#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace apar {

// The blocks of the KV pool, by number. The ref count of a block is the number of KV nodes that store tokens
// in it: more than one where a node ends inside the block and the next node continues there. Nodes on the
// path of a running branch pin their blocks. A block with references but no pins is prefix cache and may be
// evicted.
class BlockPool {
 public:
  explicit BlockPool(int32_t num_blocks) : counts_(static_cast<size_t>(num_blocks)) {
    free_.reserve(counts_.size());
    for (int32_t block = num_blocks - 1; block >= 0; --block) free_.push_back(block);
  }

  int32_t num_blocks() const { return static_cast<int32_t>(counts_.size()); }
  // Blocks with a ref count of 0.
  int32_t num_free() const { return static_cast<int32_t>(free_.size()); }
  // Blocks without a pin: the free ones and those that only the prefix cache uses.
  int32_t num_available() const { return num_blocks() - num_pinned_; }
  int32_t ref_count(int32_t block) const { return at(block).ref_count; }
  int32_t pins(int32_t block) const { return at(block).pins; }

  // Returns a block with a ref count of 1 and no pin; nullopt when no block is free.
  std::optional<int32_t> allocate() {
    if (free_.empty()) return std::nullopt;
    const int32_t block = free_.back();
    free_.pop_back();
    at(block).ref_count = 1;
    return block;
  }
  void share(int32_t block) { ++at(block).ref_count; }
  void release(int32_t block) {
    if (--at(block).ref_count == 0) free_.push_back(block);
  }

  void pin(int32_t block) { num_pinned_ += at(block).pins++ == 0; }
  void unpin(int32_t block) { num_pinned_ -= --at(block).pins == 0; }

 private:
  struct Counts {
    int32_t ref_count = 0;
    int32_t pins = 0;
  };
  Counts& at(int32_t block) { return counts_[static_cast<size_t>(block)]; }
  const Counts& at(int32_t block) const { return counts_[static_cast<size_t>(block)]; }

  std::vector<Counts> counts_;
  std::vector<int32_t> free_;
  int32_t num_pinned_ = 0;
};

}  // namespace apar
