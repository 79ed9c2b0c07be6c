// Products with packed weights (packed.h), with Vec (simd_kernels.inl) and a product per format, which the
// instruction sets have in files of their own.
//
// Every y[row][out] is one chain of operations over the inputs in ascending order, in the lane of its output:
// over pairs for bf16, over groups of 32 for int8 and int4. Its bits depend neither on the number of rows
// that run at the same time, nor on where the chain is stored in y and resumed.

constexpr int64_t kVecs = kPanel / Vec::kLanes;  // of one panel
// Bytes of prepared activations that stay in the L2 cache while one panel after the other is multiplied.
constexpr int64_t kRowBlockBytes = 512 * 1024;
// How many bytes ahead the weights are prefetched when they are read only once.
constexpr int64_t kPrefetchBytes = 4096;

template <int64_t kRows>
using Sums = Vec[kRows][kVecs];

// The operands of one product: consecutive steps of one panel, and some prepared rows. A step is a pair of
// inputs (bf16) or a group of 32 (int8, int4).
struct PanelSlice {
  const std::byte* w;         // weights of the first step
  const std::byte* x;         // the first row
  int64_t x_stride;           // bytes between rows
  int64_t first;              // number of the first step
  int64_t count;              // of steps
  int64_t steps;              // of a whole row
  const std::byte* prefetch;  // weights to prefetch, `prefetch_step` bytes of them in every step
  int64_t prefetch_step;
};

inline void prefetch_lines(const std::byte* from, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += 64) prefetch_line(from + at);
}
