#pragma once

#include <cstdint>

#include "common/matrix.h"
#include "common/model_config.h"

namespace apar::cuda {

// How a token's keys and values lie in the pool, per KV head: head_dim elements each, one after the other
// token of its block. In fp8 (e4m3, docs/adr/0022) a KvScale goes with them, and the elements of every whole
// group of 16 stand in another order, which the tensor cores' operands are cut from without shuffling.

// bf16 numbers, both powers of two, that make a bf16 with an e4m3's bits, which is too small by 2^120, the
// key or value itself. What is not finite cannot be told in e4m3: the number is a NaN then, and so is all of
// the token's head.
struct KvScale {
  uint16_t keys = 0;
  uint16_t values = 0;

  bool operator==(const KvScale&) const = default;
};
constexpr uint16_t kNanScale = 0x7fff;

// Where element d of a head lies: d and d + 8 side by side.
constexpr int32_t fp8_place(int32_t d, int32_t head_dim) {
  const int32_t group = d / 16 * 16;
  return group + 16 > head_dim ? d : group + d % 8 * 2 + d % 16 / 8;
}

// Keys and values of a token and KV head.
constexpr int64_t kv_token_bytes(KvFormat format, int32_t head_dim) {
  const auto elements = int64_t{2} * head_dim * static_cast<int64_t>(element_bytes(format));
  return elements + (format == KvFormat::fp8 ? static_cast<int64_t>(sizeof(KvScale)) : 0);
}

// K and V of one layer: [block][kv_head][kBlockTokens][head_dim].
struct KvLayer {
  void* keys = nullptr;
  void* values = nullptr;
  KvFormat format = KvFormat::bf16;
  KvScale* scales = nullptr;  // of fp8: [block][kv_head][kBlockTokens]
};
struct HeadShape {
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;

  constexpr int32_t group() const { return heads / kv_heads; }
};

}  // namespace apar::cuda
