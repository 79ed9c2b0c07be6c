#pragma once

#include <cstdint>

namespace apar {

// The axis along which tensor parallelism divides activations and linear layers between devices
// (ops/sharded/sharded_ops.h). Every device gets the same part of an axis in all tensors. A device that holds
// the whole model ignores it.
enum class Axis : uint8_t { whole, heads, kv_heads, intermediate, vocabulary };

// The axes of a linear layer; at most one of them is not `whole`.
struct LinearAxes {
  Axis outputs = Axis::whole;
  Axis inputs = Axis::whole;
};

}  // namespace apar
