#pragma once

#include <cstdint>

namespace apar {

// Along what activations and linear layers may be divided between devices that share a model
// (ops/sharded/sharded_ops.h): elements of one axis belong together wherever they occur. A device that holds
// a whole model need not look.
enum class Axis : uint8_t { whole, heads, kv_heads, intermediate, vocabulary };

// The axes of a linear layer; at most one of them is not `whole`.
struct LinearAxes {
  Axis outputs = Axis::whole;
  Axis inputs = Axis::whole;
};

}  // namespace apar
