#pragma once

#include "ops/cuda/attention/attention.h"
#include "ops/cuda/attention/kv.cuh"
#include "ops/cuda/step/step_access.cuh"

namespace apar::cuda {

// The shared memory of a block of mma.cu, and how it is filled. `Kv` is a format of kv.cuh.
constexpr int kQueriesPerWarp = 16;
constexpr int kStages = 2;

// Shared memory holds, per stage, a chunk's keys, its values and their scales; the queries follow.
template <class Kv>
struct Layout {
  static_assert(Kv::kDim % 16 == 0);
  static constexpr int kQueryBytes = padded_row_bytes(Kv::kDim * 2);
  static constexpr int kSideBytes = kChunkTokens * Kv::kRowBytes;
  static constexpr int kStageBytes = 2 * kSideBytes + kChunkTokens * Kv::kScaleBytes;
  static constexpr int shared_bytes(int warps) {
    return kStages * kStageBytes + warps * kQueriesPerWarp * kQueryBytes;
  }
};

struct MmaArgs {
  const StepHeader* step;
  bool large;
  HeadShape shape;
  float scale;
  const float* q;
  KvLayer kv;
  AttentionPartials partials;
};

// One work item and one KV head, as computed by a block.
template <class Kv, int kWarps>
struct Task {
  const MmaArgs& args;
  AttentionItem item;
  int32_t kv_head;
  unsigned char* shared;

  static constexpr int kThreads = kWarps * 32;
  static constexpr int kDim = Kv::kDim;

  __device__ unsigned char* keys(int chunk) const {
    return shared + chunk % kStages * Layout<Kv>::kStageBytes;
  }
  __device__ unsigned char* values(int chunk) const { return keys(chunk) + Layout<Kv>::kSideBytes; }
  __device__ unsigned char* scales(int chunk) const { return keys(chunk) + 2 * Layout<Kv>::kSideBytes; }
  __device__ unsigned char* queries() const { return shared + kStages * Layout<Kv>::kStageBytes; }
  __device__ int chunks() const { return (item.num_tokens + kChunkTokens - 1) / kChunkTokens; }
  __device__ int32_t context(int query) const {
    const int32_t row = query / args.shape.group();
    return row < item.num_rows ? step_array(args.step, args.step->contexts)[item.first_row + row] : 0;
  }

  // Loads the item's queries; queries beyond them are zero.
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
      *reinterpret_cast<uint32_t*>(queries() + query * Layout<Kv>::kQueryBytes + 4 * pair) = bits;
    }
  }

  // Starts the copies of a chunk. Tokens beyond the item's become zero, because a weight of zero times a NaN
  // in memory would be NaN.
  __device__ void load_chunk(int chunk) const {
    const int32_t* const slots = step_array(args.step, args.step->item_slots) + item.first_slot;
    const KvLayer& kv = args.kv;
    const auto valid = [&](int token) { return chunk * kChunkTokens + token < item.num_tokens; };
    const auto in_pool = [&](int token) {
      return pool_token(valid(token) ? slots[chunk * kChunkTokens + token] : 0, args.shape.kv_heads, kv_head);
    };
    for (int i = threadIdx.x; i < kChunkTokens * Kv::kPieces; i += kThreads) {
      const int token = i / Kv::kPieces, piece = i % Kv::kPieces;
      const int64_t from = (in_pool(token) * Kv::kPieces + piece) * kCopyBytes;
      const int to = token * Kv::kRowBytes + piece * kCopyBytes;
      copy_async(keys(chunk) + to, static_cast<const unsigned char*>(kv.keys) + from, valid(token));
      copy_async(values(chunk) + to, static_cast<const unsigned char*>(kv.values) + from, valid(token));
    }
    if constexpr (Kv::kScaleBytes > 0)
      for (int token = threadIdx.x; token < kChunkTokens; token += kThreads)
        copy_async_word(scales(chunk) + token * Kv::kScaleBytes, kv.scales + in_pool(token), valid(token));
  }
};

}  // namespace apar::cuda
