// Attention on the tensor cores, bf16 keys and values, f32 sums: a block takes one item of the work list and
// one KV head after another, a warp 16 of its query vectors.
#include "model/step_batch.h"
#include "ops/cuda/attention_math.cuh"
#include "ops/cuda/intrinsics.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/step_access.cuh"

namespace apar::cuda {
namespace {

constexpr float kLog2E = 1.4426950408889634f;
constexpr int kQueriesPerWarp = 16;
constexpr int kStages = 2;
constexpr int kTokenBlocks = kChunkTokens / 8;

template <int kDim>
struct Layout {
  static_assert(kDim % 16 == 0);
  // 16 bytes more than the row: eight rows of a matrix then lie in different banks.
  static constexpr int kRowBytes = kDim * 2 + 16;
  static constexpr int kChunkBytes = kChunkTokens * kRowBytes;
  static constexpr int shared_bytes(int warps) {
    return 2 * kStages * kChunkBytes + warps * kQueriesPerWarp * kRowBytes;
  }
};

struct MmaArgs {
  const StepHeader* step;
  bool large;
  HeadShape shape;
  float scale;
  const float* q;
  const uint16_t* keys;
  const uint16_t* values;
  AttentionParts parts;
};

// One item and KV head as its block sees it.
template <int kDim, int kWarps>
struct Task {
  const MmaArgs& args;
  AttentionItem item;
  int32_t kv_head;
  unsigned char* shared;

  static constexpr int kThreads = kWarps * 32;
  static constexpr int kPieces = kDim / 8;  // of 16 bytes in a row

  __device__ unsigned char* keys(int stage) const { return shared + 2 * stage * Layout<kDim>::kChunkBytes; }
  __device__ unsigned char* values(int stage) const { return keys(stage) + Layout<kDim>::kChunkBytes; }
  __device__ unsigned char* queries() const { return shared + 2 * kStages * Layout<kDim>::kChunkBytes; }
  __device__ int chunks() const { return (item.num_tokens + kChunkTokens - 1) / kChunkTokens; }
  __device__ int32_t context(int query) const {
    const int32_t row = query / args.shape.group();
    return row < item.num_rows ? step_array(args.step, args.step->contexts)[item.first_row + row] : 0;
  }

  // Queries beyond the item's are zero.
  __device__ void load_queries() const {
    const int32_t* const rows = step_array(args.step, args.step->query_rows) + item.first_row;
    const int32_t group = args.shape.group();
    for (int i = threadIdx.x; i < kWarps * kQueriesPerWarp * kDim / 2; i += kThreads) {
      const int query = i / (kDim / 2), pair = i % (kDim / 2);
      uint32_t bits = 0;
      if (query < item.num_rows * group) {
        const int64_t head =
            static_cast<int64_t>(rows[query / group]) * args.shape.heads + kv_head * group + query % group;
        const float* const from = args.q + head * kDim + 2 * pair;
        bits = bf16_pair(from[0], from[1]);
      }
      *reinterpret_cast<uint32_t*>(queries() + query * Layout<kDim>::kRowBytes + 4 * pair) = bits;
    }
  }

  // Tokens beyond the item's are zero: what lies there must not reach a sum, not even times zero.
  __device__ void load_chunk(int chunk) const {
    const int32_t* const slots = step_array(args.step, args.step->item_slots) + item.first_slot;
    const int stage = chunk % kStages;
    for (int i = threadIdx.x; i < kChunkTokens * kPieces; i += kThreads) {
      const int token = i / kPieces, piece = i % kPieces;
      const bool valid = chunk * kChunkTokens + token < item.num_tokens;
      const int32_t slot = valid ? slots[chunk * kChunkTokens + token] : 0;
      const int64_t block = static_cast<int64_t>(slot / kBlockTokens) * args.shape.kv_heads + kv_head;
      const int64_t from = (block * kBlockTokens + slot % kBlockTokens) * kDim + piece * 8;
      const int to = token * Layout<kDim>::kRowBytes + piece * 16;
      copy_async(keys(stage) + to, args.keys + from, valid);
      copy_async(values(stage) + to, args.values + from, valid);
    }
  }
};

// What a thread holds of its warp's 16 queries: rows g and g + 8 of the accumulators (intrinsics.cuh).
template <int kDim>
struct Partial {
  float sums[kDim / 8][4];
  float max[2];
  float total[2];

  __device__ void clear() {
    for (auto& block : sums)
      for (float& value : block) value = 0;
    max[0] = max[1] = -INFINITY;
    total[0] = total[1] = 0;
  }

  __device__ void fold(const Partial& next) {
    float weight[2], next_weight[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float common = fmaxf(max[half], next.max[half]);
      weight[half] = part_weight(max[half], common);
      next_weight[half] = part_weight(next.max[half], common);
      total[half] = part_sum(total[half], weight[half], next.total[half], next_weight[half]);
      max[half] = common;
    }
#pragma unroll
    for (int block = 0; block < kDim / 8; ++block)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        sums[block][i] = part_sum(sums[block][i], weight[i / 2], next.sums[block][i], next_weight[i / 2]);
  }
};

__device__ inline float quad_max(float value) {
  for (int mask = 1; mask < 4; mask *= 2) value = fmaxf(value, __shfl_xor_sync(kFullWarp, value, mask));
  return value;
}
__device__ inline float quad_sum(float value) {
  for (int mask = 1; mask < 4; mask *= 2) value += __shfl_xor_sync(kFullWarp, value, mask);
  return value;
}

// The partial result of one chunk. `visible`: tokens of the chunk that each of the thread's two queries sees.
template <int kDim>
__device__ inline void attend_chunk(const unsigned char* queries, const unsigned char* keys,
                                    const unsigned char* values, const int (&visible)[2], float scale,
                                    Partial<kDim>& result) {
  constexpr int kRowBytes = Layout<kDim>::kRowBytes;
  const int lane = threadIdx.x % 32;
  float scores[kTokenBlocks][4] = {};
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step) {
    uint32_t a[4];
    load_matrices(a, queries + lane % 16 * kRowBytes + (step * 2 + lane / 16) * 16);
#pragma unroll
    for (int tokens = 0; tokens < kTokenBlocks / 2; ++tokens) {
      uint32_t b[4];
      load_matrices(b, keys + (tokens * 16 + lane % 16) * kRowBytes + (step * 2 + lane / 16) * 16);
      mma_bf16(scores[2 * tokens], a, b[0], b[2]);
      mma_bf16(scores[2 * tokens + 1], a, b[1], b[3]);
    }
  }
  result.clear();
#pragma unroll
  for (int block = 0; block < kTokenBlocks; ++block) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = block * 8 + lane % 4 * 2 + i % 2;
      scores[block][i] = token < visible[i / 2] ? scores[block][i] * scale : -INFINITY;
      result.max[i / 2] = fmaxf(result.max[i / 2], scores[block][i]);
    }
  }
  for (int half = 0; half < 2; ++half) result.max[half] = quad_max(result.max[half]);
  uint32_t weights[kTokenBlocks / 2][4];
#pragma unroll
  for (int block = 0; block < kTokenBlocks; ++block) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float low = part_weight(scores[block][2 * half], result.max[half]);
      const float high = part_weight(scores[block][2 * half + 1], result.max[half]);
      result.total[half] += low + high;
      weights[block / 2][block % 2 * 2 + half] = bf16_pair(low, high);
    }
  }
  for (int half = 0; half < 2; ++half) result.total[half] = quad_sum(result.total[half]);
#pragma unroll
  for (int tokens = 0; tokens < kTokenBlocks / 2; ++tokens) {
#pragma unroll
    for (int dims = 0; dims < kDim / 16; ++dims) {
      uint32_t b[4];
      load_matrices_transposed(b,
                               values + (tokens * 16 + lane % 16) * kRowBytes + (dims * 2 + lane / 16) * 16);
      mma_bf16(result.sums[2 * dims], weights[tokens], b[0], b[1]);
      mma_bf16(result.sums[2 * dims + 1], weights[tokens], b[2], b[3]);
    }
  }
}

// chunk: 0 when folded.
template <int kDim, int kWarps>
__device__ inline void leave_partial(const Task<kDim, kWarps>& task, int chunk,
                                     const Partial<kDim>& partial) {
  const int lane = threadIdx.x % 32, group = task.args.shape.group();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = threadIdx.x / 32 * kQueriesPerWarp + lane / 4 + 8 * half;
    if (query >= task.item.num_rows * group) continue;
    const int32_t part = task.item.first_part + chunk * task.item.num_rows + query / group;
    const int64_t at =
        static_cast<int64_t>(part) * task.args.shape.heads + task.kv_head * group + query % group;
    if (lane % 4 == 0) {
      task.args.parts.scales[2 * at] = partial.max[half];
      task.args.parts.scales[2 * at + 1] = partial.total[half];
    }
    float* const sums = task.args.parts.sums + at * kDim + lane % 4 * 2;
#pragma unroll
    for (int block = 0; block < kDim / 8; ++block)
      *reinterpret_cast<float2*>(sums + block * 8) =
          make_float2(partial.sums[block][2 * half], partial.sums[block][2 * half + 1]);
  }
}

template <int kDim, int kWarps>
__device__ inline void attend(const Task<kDim, kWarps>& task) {
  const int chunks = task.chunks(), lane = threadIdx.x % 32;
  const int first_query = threadIdx.x / 32 * kQueriesPerWarp;
  const int32_t context[2] = {task.context(first_query + lane / 4), task.context(first_query + lane / 4 + 8)};
  task.load_chunk(0);
  copy_commit();
  task.load_queries();
  Partial<kDim> folded;
  folded.clear();
  for (int chunk = 0; chunk < chunks; ++chunk) {
    if (chunk + 1 < chunks) task.load_chunk(chunk + 1);
    copy_commit();
    copy_wait<1>();
    __syncthreads();
    const int first = chunk * kChunkTokens;
    int visible[2];
    for (int half = 0; half < 2; ++half) {
      const int seen = context[half] - task.item.first_position - first, left = task.item.num_tokens - first;
      visible[half] = seen < left ? seen : left;
    }
    Partial<kDim> partial;
    attend_chunk<kDim>(task.queries() + first_query * Layout<kDim>::kRowBytes, task.keys(chunk % kStages),
                       task.values(chunk % kStages), visible, task.args.scale, partial);
    if (task.item.folded != 0)
      folded.fold(partial);
    else
      leave_partial(task, chunk, partial);
    __syncthreads();  // the next copy overwrites this stage
  }
  if (task.item.folded != 0) leave_partial(task, 0, folded);
}

template <int kDim, int kWarps>
__global__ void __launch_bounds__(kWarps * 32) mma_items(const __grid_constant__ MmaArgs args) {
  const StepHeader* const step = args.step;
  const AttentionItem* const items = step_items(step, args.large ? step->large_items : step->small_items);
  const int32_t count = args.large ? step->num_large_items : step->num_small_items;
  for (int32_t index = blockIdx.x; index < count * args.shape.kv_heads; index += gridDim.x)
    attend(Task<kDim, kWarps>{args, items[index / args.shape.kv_heads], index % args.shape.kv_heads,
                              shared_memory()});
}

constexpr int kSmallWarps = kSmallQueries / kQueriesPerWarp;
constexpr int kLargeWarps = kLargeQueries / kQueriesPerWarp;

template <int kDim, int kWarps>
void launch_items(Stream stream, int32_t blocks, const MmaArgs& args) {
  launch<mma_items<kDim, kWarps>>(stream, {static_cast<uint32_t>(blocks)}, kWarps * 32,
                                  Layout<kDim>::shared_bytes(kWarps), args);
}

template <int kDim, int kWarps>
int32_t item_blocks() {
  return blocks_at_once<mma_items<kDim, kWarps>>(kWarps * 32, Layout<kDim>::shared_bytes(kWarps));
}

// Calls body<dimensions of a head>().
template <class Body>
auto with_dim(int32_t head_dim, Body body) {
  if (head_dim == 64) return body.template operator()<64>();
  if (head_dim == 80) return body.template operator()<80>();
  if (head_dim == 96) return body.template operator()<96>();
  return body.template operator()<128>();
}

}  // namespace

bool attention_mma_takes(HeadShape shape, KvFormat format) {
  const int32_t dim = shape.head_dim;
  return format == KvFormat::bf16 && shape.group() <= kLargeQueries &&
         (dim == 64 || dim == 80 || dim == 96 || dim == 128);
}

void attention_mma(Stream stream, const StepHeader* step, HeadShape shape, const float* q, KvLayer kv,
                   AttentionParts parts, AttentionGrid grid) {
  MmaArgs args = {step,
                  false,
                  shape,
                  kLog2E / sqrtf(static_cast<float>(shape.head_dim)),
                  q,
                  static_cast<const uint16_t*>(kv.keys),
                  static_cast<const uint16_t*>(kv.values),
                  parts};
  with_dim(shape.head_dim, [&]<int kDim>() {
    args.large = false;
    launch_items<kDim, kSmallWarps>(stream, grid.small_blocks, args);
    args.large = true;
    launch_items<kDim, kLargeWarps>(stream, grid.large_blocks, args);
  });
}

AttentionGrid attention_mma_grid(HeadShape shape) {
  return with_dim(shape.head_dim, [&]<int kDim>() {
    return AttentionGrid{item_blocks<kDim, kSmallWarps>(), item_blocks<kDim, kLargeWarps>()};
  });
}

}  // namespace apar::cuda
