#include "ops/cuda/elementwise/copy_slots.h"

#include <algorithm>

#include "common/step_batch.h"
#include "ops/cuda/device/intrinsics.cuh"

namespace apar::cuda {
namespace {

constexpr int32_t kMaxThreads = 256;

// A block of threads per layer and head. A thread copies the same units of all tokens, so a slot that is read
// by one copy and written by a later one needs no barrier between them.
template <class Unit>
__global__ void __launch_bounds__(kMaxThreads)
    copy_units(const SlotCopy* copies, int32_t count, PoolSide side) {
  const int64_t layer = blockIdx.x / side.kv_heads, head = blockIdx.x % side.kv_heads;
  const int64_t units = side.bytes / static_cast<int32_t>(sizeof(Unit));
  auto* const data = static_cast<Unit*>(side.data);
  const auto token = [&](int32_t slot) {
    const int64_t block = layer * side.blocks + slot / kBlockTokens;
    return data + ((block * side.kv_heads + head) * kBlockTokens + slot % kBlockTokens) * units;
  };
  for (int64_t unit = threadIdx.x; unit < units; unit += blockDim.x)
    for (int32_t i = 0; i < count; ++i) token(copies[i].to)[unit] = token(copies[i].from)[unit];
}

template <class Unit>
void copy_all(Stream stream, const SlotCopy* copies, int32_t count, const PoolSide& side) {
  const auto units = static_cast<int32_t>(side.bytes / sizeof(Unit));
  launch<copy_units<Unit>>(stream, {static_cast<uint32_t>(side.layers * side.kv_heads)},
                           threads_for(units, kMaxThreads), 0, copies, count, side);
}

}  // namespace

void copy_slots(Stream stream, const SlotCopy* copies, int32_t count, const PoolSide& side) {
  if (side.bytes % 16 == 0) return copy_all<uint4>(stream, copies, count, side);
  if (side.bytes % 4 == 0) return copy_all<uint32_t>(stream, copies, count, side);
  copy_all<uint16_t>(stream, copies, count, side);
}

}  // namespace apar::cuda
