#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace apar {

// The KV pool's blocks, by number. A block may have several owners: a node of the KV tree that ends inside
// it, and the node that goes on there. Owners that a running branch needs pin it; what nobody pins is cache,
// free to be taken.
class BlockPool {
 public:
  explicit BlockPool(int32_t num_blocks) : counts_(static_cast<size_t>(num_blocks)) {
    free_.reserve(counts_.size());
    for (int32_t block = num_blocks - 1; block >= 0; --block) free_.push_back(block);
  }

  int32_t num_blocks() const { return static_cast<int32_t>(counts_.size()); }
  // Without an owner.
  int32_t num_free() const { return static_cast<int32_t>(free_.size()); }
  // Free, or would be if all cached text were dropped.
  int32_t num_available() const { return num_blocks() - num_pinned_; }
  int32_t owners(int32_t block) const { return at(block).owners; }
  int32_t pins(int32_t block) const { return at(block).pins; }

  // One owner, no pin. nullopt when none is free.
  std::optional<int32_t> allocate() {
    if (free_.empty()) return std::nullopt;
    const int32_t block = free_.back();
    free_.pop_back();
    at(block).owners = 1;
    return block;
  }
  void share(int32_t block) { ++at(block).owners; }
  void release(int32_t block) {
    if (--at(block).owners == 0) free_.push_back(block);
  }

  void pin(int32_t block) { num_pinned_ += at(block).pins++ == 0; }
  void unpin(int32_t block) { num_pinned_ -= --at(block).pins == 0; }

 private:
  struct Counts {
    int32_t owners = 0;
    int32_t pins = 0;
  };
  Counts& at(int32_t block) { return counts_[static_cast<size_t>(block)]; }
  const Counts& at(int32_t block) const { return counts_[static_cast<size_t>(block)]; }

  std::vector<Counts> counts_;
  std::vector<int32_t> free_;
  int32_t num_pinned_ = 0;
};

}  // namespace apar
