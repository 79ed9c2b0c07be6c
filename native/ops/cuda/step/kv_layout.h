#pragma once

#include <cstdint>

#include "common/matrix.h"
#include "common/model_config.h"

namespace apar::cuda {

// The layout of keys and values in the pool, per KV head: head_dim elements per token, and the tokens of a
// block one after the other. In fp8 (e4m3, docs/adr/0022) every token has a KvScale too, and the elements of
// every whole group of 16 are permuted, so that operands of the tensor cores are loaded without shuffles.

// Scales as bf16, both powers of two. Multiplied by its scale, a bf16 made from an e4m3's bits, which is too
// small by 2^120, becomes the key or the value. e4m3 cannot represent values that are not finite: if a head
// has one, its scale is NaN, and so are all elements of that token's head.
struct KvScale {
  uint16_t keys = 0;
  uint16_t values = 0;

  bool operator==(const KvScale&) const = default;
};
constexpr uint16_t kNanScale = 0x7fff;

// The position of element d of a head in its fp8 layout: elements d and d + 8 are adjacent.
constexpr int32_t fp8_place(int32_t d, int32_t head_dim) {
  const int32_t group = d / 16 * 16;
  return group + 16 > head_dim ? d : group + d % 8 * 2 + d % 16 / 8;
}

// The bytes of the keys and values of a token and KV head.
constexpr int64_t kv_token_bytes(KvFormat format, int32_t head_dim) {
  const auto elements = int64_t{2} * head_dim * static_cast<int64_t>(element_bytes(format));
  return elements + (format == KvFormat::fp8 ? static_cast<int64_t>(sizeof(KvScale)) : 0);
}

// K and V of one layer: [block][kv_head][kBlockTokens][head_dim].
struct KvLayer {
  void* keys = nullptr;
  void* values = nullptr;
  KvFormat format = KvFormat::bf16;
  KvScale* scales = nullptr;  // only for fp8: [block][kv_head][kBlockTokens]
};
struct HeadShape {
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;

  constexpr int32_t group() const { return heads / kv_heads; }
};

}  // namespace apar::cuda
