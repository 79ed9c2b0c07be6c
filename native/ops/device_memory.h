#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "common/matrix.h"
#include "ops/ops.h"

namespace apar {

// Memory that this process may still take.
struct FreeMemory {
  uint64_t bytes = 0;
  std::string source;  // what sets the limit, for messages: "the memory limit of the cgroup"
};

// The memory of one device, and what Ops on that device allocate. It is asked before any weight is read and
// allocates nothing. The figures are those of the same functions that Ops use to allocate, so a plan and the
// engine cannot disagree.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;

  virtual FreeMemory free_memory() const = 0;
  // Whether the device is the host: it then also holds the decoder's buffers, and reads what it can from the
  // mapped checkpoint.
  virtual bool is_host() const = 0;
  // What these linear layers, as the checkpoint stores them (`data` is not used), take after place_linear().
  virtual uint64_t linear_bytes(std::span<const Matrix> layers, WeightFormat format) const = 0;
  // What Ops::allocate(count) takes.
  virtual uint64_t buffer_bytes(uint64_t count) const = 0;
  // What opening Ops takes, besides the KV pool.
  virtual uint64_t step_bytes(const OpsConfig& config) const = 0;
  // What the device's driver takes later for the steps of these Ops, and Ops do not allocate themselves.
  virtual uint64_t driver_bytes(const OpsConfig& /*config*/) const { return 0; }
  // The keys and values of config.num_blocks blocks in all layers.
  virtual uint64_t pool_bytes(const OpsConfig& config) const = 0;
};

// The product of the factors, but at most 256 TiB: more than any machine has, and far enough from the largest
// number that sums of such products do not overflow.
inline uint64_t bounded_product(std::initializer_list<uint64_t> factors) {
  constexpr uint64_t kMost = uint64_t{1} << 48;
  uint64_t product = 1;
  for (const uint64_t factor : factors)
    if (__builtin_mul_overflow(product, factor, &product) || product > kMost) product = kMost;
  return product;
}

}  // namespace apar
