#pragma once

#include "ops/cuda/attention/attention.h"
#include "ops/cuda/attention/kv.cuh"
#include "ops/cuda/step/step_access.cuh"

namespace apar::cuda {

// The work of a block of mma.cu, its shared memory, and how that is filled. `Kv` is a format of kv.cuh.
constexpr int kWarps = 4;
constexpr int kQueriesPerWarp = 16;
static_assert(kWarps * kQueriesPerWarp == kLargeQueries && kQueriesPerWarp == kSmallQueries);
static_assert(kWarps == kSpanChunks);  // of a small item each warp computes one chunk of a span

// What the warps of a small item exchange to fold the partial results of a span.
struct Exchange {
  float scales[kWarps][kQueriesPerWarp][2];  // largest score and sum of weights
  int32_t sums[kWarps];                      // offset of [kQueriesPerWarp][head_dim] sums in shared memory
};

// Shared memory holds the queries, what the warps of a small item exchange, and a ring of units. A unit holds
// kUnitTokens keys or values, followed by their scales. The four warps of a large item share the whole ring,
// whose stages are chunks; in a small item each warp has a ring of `depth` units of its own.
//
// Bytes of a block, and the blocks that fit beside each other on sm_90 (228 KB, of which every block takes
// 1 KB more) and sm_80 (164 KB), where registers allow three at head size 64 and two beyond:
//   head size           64              80              96              128
//   bf16, depth 2   41,488  3, 3    51,728  2, 2    61,968  2, 2     82,448  2, 2
//   bf16, depth 3   57,872  3, 2    72,208  2, 2    86,544  2, 1    115,216  2, 1
//   fp8, depth 2    43,536  3, 3    53,776  2, 2    64,016  2, 2     84,496  2, 1
// Depth 2 also fits into the 99 KB of a block on sm_86 and sm_89.
template <class Kv>
struct Layout {
  static_assert(Kv::kDim % 16 == 0 && kChunkTokens % Kv::kUnitTokens == 0);
  using QueryRows = Rows<Kv::kDim * 2 / kCopyBytes>;
  static constexpr int kUnitBytes = Kv::kUnitTokens * (Kv::kRowBytes + Kv::kScaleBytes);
  static constexpr int kSideUnits = kChunkTokens / Kv::kUnitTokens;  // of a chunk's keys, or values
  static constexpr int kSideBytes = kSideUnits * kUnitBytes;
  static_assert(kSideUnits == 1 || Kv::kScaleBytes == 0);  // else a side's scales would not be adjacent
  static constexpr int kStageBytes = 2 * kSideBytes;
  static constexpr int kWarpQueryBytes = kQueriesPerWarp * QueryRows::kBytes;
  static constexpr int kExchangeAt = kWarps * kWarpQueryBytes;
  static constexpr int kRingAt = kExchangeAt + static_cast<int>(sizeof(Exchange));
  static_assert(kRingAt % kCopyBytes == 0);

  __device__ static constexpr int stages(int depth) { return kWarps * depth / (2 * kSideUnits); }
  static constexpr size_t bytes(int depth) {
    return static_cast<size_t>(kRingAt) + static_cast<size_t>(kWarps * depth * kUnitBytes);
  }
};

template <class Kv>
__device__ inline unsigned char* warp_queries(unsigned char* shared) {
  return shared + threadIdx.x / 32 * Layout<Kv>::kWarpQueryBytes;
}
template <class Kv>
__device__ inline Exchange& exchange(unsigned char* shared) {
  return *reinterpret_cast<Exchange*>(shared + Layout<Kv>::kExchangeAt);
}

struct MmaArgs {
  const StepHeader* step;
  HeadShape shape;
  float scale;
  const float* q;
  KvLayer kv;
  AttentionPartials partials;
  int32_t depth;  // units of a warp's ring, 2 or 3
};

// One work item and one KV head.
struct Task {
  AttentionItem item;
  int32_t kv_head;

  __device__ int chunks() const { return (item.num_tokens + kChunkTokens - 1) / kChunkTokens; }
};
// The pairs of an item and a KV head are numbered.
__device__ inline Task task_at(const MmaArgs& args, int32_t index) {
  return {step_items(args.step, args.step->items)[index / args.shape.kv_heads], index % args.shape.kv_heads};
}
__device__ inline int num_queries(const MmaArgs& args, const Task& task) {
  return task.item.num_rows * args.shape.group();
}
// The number of tokens that a query of the task sees, 0 beyond its queries.
__device__ inline int32_t context_of(const MmaArgs& args, const Task& task, int query) {
  const int32_t row = query / args.shape.group();
  return row < task.item.num_rows ? step_array(args.step, args.step->contexts)[task.item.first_row + row] : 0;
}

// Where the keys and values of a token of the task lie in the pool, or -1 beyond its tokens.
__device__ inline int32_t place_of(const MmaArgs& args, const Task& task, int token) {
  if (token >= task.item.num_tokens) return -1;
  const int32_t slot = item_slot(args.step, task.item, token);
  return static_cast<int32_t>(pool_token(slot, args.shape.kv_heads, task.kv_head));
}

// Rounds 16 queries of the task to bf16, from query `first` on, into the warp's shared memory. Queries beyond
// the task's are zero.
template <class Kv>
__device__ inline void load_queries(const MmaArgs& args, const Task& task, int first, unsigned char* to) {
  constexpr int kDim = Kv::kDim, kPieces = Kv::kDim * 2 / kCopyBytes;
  const int32_t* const rows = step_array(args.step, args.step->query_rows) + task.item.first_row;
  const int32_t group = args.shape.group();
  __syncwarp();  // other lanes may still read the previous queries
  for (int i = threadIdx.x % 32; i < kQueriesPerWarp * kPieces; i += 32) {
    const int query = i / kPieces, piece = i % kPieces;
    uint4 bits = {0, 0, 0, 0};
    if (first + query < task.item.num_rows * group) {
      const int32_t row = rows[(first + query) / group];
      const int64_t head =
          static_cast<int64_t>(row) * args.shape.heads + task.kv_head * group + (first + query) % group;
      const float4* const from = reinterpret_cast<const float4*>(args.q + head * kDim + 8 * piece);
      const float4 low = from[0], high = from[1];
      bits = {bf16_pair(low.x, low.y), bf16_pair(low.z, low.w), bf16_pair(high.x, high.y),
              bf16_pair(high.z, high.w)};
    }
    *reinterpret_cast<uint4*>(to + Layout<Kv>::QueryRows::at(0, query, piece)) = bits;
  }
  __syncwarp();
}

// Starts the copies of kTokens keys or values (`side`) and of their scales, by one warp. Lane i passes the
// place of token i. Tokens without one become zero, because a weight of zero times a NaN in memory would be
// NaN. `first`: the row of the first token in `rows`, which `scales` follow.
template <class Kv, int kTokens>
__device__ inline void copy_tokens(const KvLayer& kv, const void* side, int32_t place, unsigned char* rows,
                                   unsigned char* scales, int first) {
  static_assert(kTokens <= 32 && kTokens % 8 == 0);
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < kTokens * Kv::kPieces; i += 32) {
    const int token = (i + lane) / Kv::kPieces, piece = (i + lane) % Kv::kPieces;
    const int32_t from = __shfl_sync(kFullWarp, place, token % 32);
    if (i + 32 > kTokens * Kv::kPieces && token >= kTokens) continue;
    const int64_t offset = (int64_t{from < 0 ? 0 : from} * Kv::kPieces + piece) * kCopyBytes;
    copy_async(rows + Kv::KvRows::at(first, token, piece), static_cast<const unsigned char*>(side) + offset,
               from >= 0);
  }
  if constexpr (Kv::kScaleBytes > 0) {
    if (lane < kTokens)
      copy_async_word(scales + (first + lane) * Kv::kScaleBytes, kv.scales + (place < 0 ? 0 : place),
                      place >= 0);
  }
}

// The chunks of a block's large items, in the order in which it computes them. All warps copy them into the
// stages of the ring, all but one of the stages ahead, across items.
template <class Kv>
class Chunks {
 public:
  __device__ Chunks(const MmaArgs& args, int32_t index, int32_t end, unsigned char* shared)
      : args_(args), index_(index), end_(end), ring_(shared + Layout<Kv>::kRingAt) {
    begin_item();
    for (int stage = 0; stage < stages() - 1; ++stage) copy();
  }
  // Waits for the next chunk and returns its keys; its values follow them. The chunk before is overwritten.
  __device__ const unsigned char* next() {
    if (stages() == 2)
      copy_wait<0>();
    else if (stages() == 3)
      copy_wait<1>();
    else
      copy_wait<2>();
    __syncthreads();
    copy();
    const unsigned char* const at = ring_ + read_ * Layout<Kv>::kStageBytes;
    read_ = after(read_);
    return at;
  }

 private:
  static constexpr int kTokens = kChunkTokens / kWarps;  // of a warp

  __device__ int stages() const { return Layout<Kv>::stages(args_.depth); }
  __device__ int after(int stage) const { return stage + 1 == stages() ? 0 : stage + 1; }
  __device__ void begin_item() {
    chunk_ = 0;
    if (index_ < end_) task_ = task_at(args_, index_);
    find_tokens();
  }
  // The places are needed only with the next copy, which is a chunk later.
  __device__ void find_tokens() {
    if (index_ >= end_) return;
    const int first = chunk_ * kChunkTokens + static_cast<int>(threadIdx.x / 32) * kTokens;
    place_ = place_of(args_, task_, first + threadIdx.x % kTokens);
  }
  __device__ void copy() {
    if (index_ < end_) {
      unsigned char* const keys = ring_ + write_ * Layout<Kv>::kStageBytes;
      unsigned char* const values = keys + Layout<Kv>::kSideBytes;
      const int first = static_cast<int>(threadIdx.x / 32) * kTokens;
      copy_tokens<Kv, kTokens>(args_.kv, args_.kv.keys, place_, keys, keys + kChunkTokens * Kv::kRowBytes,
                               first);
      copy_tokens<Kv, kTokens>(args_.kv, args_.kv.values, place_, values,
                               values + kChunkTokens * Kv::kRowBytes, first);
      if (++chunk_ < task_.chunks()) {
        find_tokens();
      } else {
        index_ = next_in_turn(index_);
        begin_item();
      }
    }
    copy_commit();
    write_ = after(write_);
  }

  const MmaArgs& args_;
  int32_t index_, end_;
  unsigned char* ring_;
  Task task_{};
  int chunk_ = 0;
  int32_t place_ = -1;
  int read_ = 0, write_ = 0;
};

// The units of a warp's chunks of a block's small items: of each chunk first keys, then values. The warp
// copies them into its own ring, all of its units ahead, across items.
template <class Kv>
class Units {
 public:
  __device__ Units(const MmaArgs& args, int32_t index, int32_t end, unsigned char* shared)
      : args_(args),
        index_(index),
        end_(end),
        chunk_(threadIdx.x / 32),
        ring_(shared + Layout<Kv>::kRingAt + threadIdx.x / 32 * args.depth * Layout<Kv>::kUnitBytes) {
    if (index_ < end_) task_ = task_at(args_, index_);
    find_chunk();
    for (int unit = 0; unit < args_.depth - 1; ++unit) copy();
  }
  // Waits for the next unit. The unit before is overwritten.
  __device__ const unsigned char* next() {
    __syncwarp();  // other lanes may still read the unit before
    copy();
    if (args_.depth == 2)
      copy_wait<1>();
    else
      copy_wait<2>();
    __syncwarp();
    current_ = ring_ + read_ * Layout<Kv>::kUnitBytes;
    read_ = after(read_);
    return current_;
  }
  // The unit that next() returned; it may be overwritten when it is not needed any more.
  __device__ unsigned char* current() const { return current_; }

 private:
  __device__ int after(int unit) const { return unit + 1 == args_.depth ? 0 : unit + 1; }
  // Goes on to the first item from here on that has a chunk for this warp.
  __device__ void find_chunk() {
    while (index_ < end_ && chunk_ >= task_.chunks()) {
      index_ = next_in_turn(index_);
      chunk_ = threadIdx.x / 32;
      if (index_ < end_) task_ = task_at(args_, index_);
    }
    if (index_ >= end_) return;
    const int first = chunk_ * kChunkTokens + static_cast<int>(threadIdx.x % 32);
    place_[0] = place_of(args_, task_, first);
    place_[1] = place_of(args_, task_, first + 32);
  }
  __device__ void copy() {
    if (index_ < end_) {
      unsigned char* const rows = ring_ + write_ * Layout<Kv>::kUnitBytes;
      unsigned char* const scales = rows + Kv::kUnitTokens * Kv::kRowBytes;
      const void* const side = unit_ < Layout<Kv>::kSideUnits ? args_.kv.keys : args_.kv.values;
      if constexpr (Kv::kUnitTokens == 32) {
        copy_tokens<Kv, 32>(args_.kv, side, unit_ % 2 == 0 ? place_[0] : place_[1], rows, scales, 0);
      } else {
        copy_tokens<Kv, 32>(args_.kv, side, place_[0], rows, scales, 0);
        copy_tokens<Kv, 32>(args_.kv, side, place_[1], rows, scales, 32);
      }
      if (++unit_ == 2 * Layout<Kv>::kSideUnits) {
        unit_ = 0;
        chunk_ += kWarps;
        find_chunk();
      }
    }
    copy_commit();
    write_ = after(write_);
  }

  const MmaArgs& args_;
  int32_t index_, end_;
  int chunk_, unit_ = 0;  // of the next copy
  unsigned char* ring_;
  unsigned char* current_ = nullptr;
  Task task_{};
  int32_t place_[2] = {-1, -1};  // of tokens lane and lane + 32 of the chunk
  int read_ = 0, write_ = 0;
};

}  // namespace apar::cuda
