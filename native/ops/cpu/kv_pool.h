#pragma once

#include <cstdint>
#include <cstring>

#include "common/error.h"
#include "ops/cpu/cpu_memory.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/memory.h"
#include "ops/ops.h"

namespace apar::cpu {

// K and V of all layers: per layer [block][kv_head], each laid out as kernels.h describes.
class KvPool {
 public:
  // Throws Error{unavailable} for a format that the CPU does not support, Error{out_of_memory}.
  explicit KvPool(const OpsConfig& config)
      : head_dim_(config.head_dim),
        value_stride_(value_stride(config.head_dim)),
        heads_(config.num_kv_heads),
        blocks_(config.num_blocks),
        element_(element_of(config.kv_format)),
        keys_(allocate(config, head_dim_)),
        values_(allocate(config, value_stride_)) {}

  // The keys and the values of one block and head. Element is float or uint16_t, according to kv_format, or
  // what they are copied as.
  template <class Element>
  Element* keys(int32_t layer, int32_t block, int32_t head) const {
    return reinterpret_cast<Element*>(keys_.get() + offset(layer, block, head, head_dim_));
  }
  template <class Element>
  Element* values(int32_t layer, int32_t block, int32_t head) const {
    return reinterpret_cast<Element*>(values_.get() + offset(layer, block, head, value_stride_));
  }
  int64_t stride() const { return value_stride_; }

  // Copies the keys and values of one layer and head from slot to slot.
  void copy(int32_t layer, int32_t head, SlotCopy slots) const {
    const auto [from_block, from] = at(slots.from);
    const auto [to_block, to] = at(slots.to);
    // Words of 4 bytes: a float, or a pair of bf16.
    const auto* const from_keys = keys<uint32_t>(layer, from_block, head);
    auto* const to_keys = keys<uint32_t>(layer, to_block, head);
    for (int64_t word = 0; word < head_dim_ * element_ / 4; ++word)
      to_keys[word * kBlockTokens + to] = from_keys[word * kBlockTokens + from];
    const int64_t bytes = value_stride_ * element_;
    std::memcpy(values<std::byte>(layer, to_block, head) + to * bytes,
                values<std::byte>(layer, from_block, head) + from * bytes, static_cast<size_t>(bytes));
  }

 private:
  struct Place {
    int32_t block;
    int64_t offset;  // tokens
  };
  static Place at(int32_t slot) { return {slot / kBlockTokens, slot % kBlockTokens}; }
  static int64_t element_of(KvFormat format) {
    if (format == KvFormat::fp8)
      throw Error(ErrorCode::unavailable, "an fp8 KV cache is for CUDA devices; the CPU has f32 and bf16");
    return static_cast<int64_t>(element_bytes(format));
  }
  static AlignedBytes allocate(const OpsConfig& config, int64_t width) {
    return reserve_zeroed(pool_side_bytes(config, width), "KV pool");
  }
  int64_t offset(int32_t layer, int32_t block, int32_t head, int64_t width) const {
    return ((int64_t{layer} * blocks_ + block) * heads_ + head) * width * kBlockTokens * element_;
  }

  int64_t head_dim_, value_stride_, heads_, blocks_, element_;
  AlignedBytes keys_, values_;
};

}  // namespace apar::cpu
