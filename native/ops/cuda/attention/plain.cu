// Attention over the work list for any shape, and the merge of partial results. attention_mma.cu is the fast
// one.
#include "ops/cuda/attention/attention.h"
#include "ops/cuda/attention/math.cuh"
#include "ops/cuda/device/float8.cuh"
#include "ops/cuda/step/step_access.cuh"

namespace apar::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr uint32_t kMaxMergeThreads = 256;
constexpr float kLog2E = 1.4426950408889634f;

__device__ inline float widen(float value) {
  return value;
}
__device__ inline float widen(uint16_t bits) {
  return bf16_float(bits);
}

// A layer's keys and values; a token and KV head is named by pool_token().
template <class Element>
struct PlainKv {
  struct Head {
    const Element* elements;
    __device__ float operator[](int32_t d) const { return widen(elements[d]); }
  };
  KvLayer kv;
  int32_t head_dim;

  __device__ Head key(int64_t token) const {
    return {static_cast<const Element*>(kv.keys) + token * head_dim};
  }
  __device__ Head value(int64_t token) const {
    return {static_cast<const Element*>(kv.values) + token * head_dim};
  }
};

struct PlainFp8Kv {
  struct Head {
    const uint8_t* elements;
    float scale;
    int32_t head_dim;
    __device__ float operator[](int32_t d) const {
      return e4m3_small(elements[fp8_place(d, head_dim)]) * scale;
    }
  };
  KvLayer kv;
  int32_t head_dim;

  __device__ Head key(int64_t token) const {
    return {static_cast<const uint8_t*>(kv.keys) + token * head_dim, bf16_float(kv.scales[token].keys),
            head_dim};
  }
  __device__ Head value(int64_t token) const {
    return {static_cast<const uint8_t*>(kv.values) + token * head_dim, bf16_float(kv.scales[token].values),
            head_dim};
  }
};

// One query's chunk: scores of its visible tokens, then their weights in `p`; the lanes share tokens, then
// dimensions.
template <class Kv>
struct PlainQuery {
  Kv kv;
  const int32_t* slots;  // of the item
  int32_t kv_heads, kv_head;
  const float* q;  // scaled, in shared memory
  float* p;        // [kChunkTokens], in shared memory

  __device__ int64_t token_at(int32_t index) const { return pool_token(slots[index], kv_heads, kv_head); }

  // Returns the chunk's largest score; `total` becomes the sum of the weights.
  __device__ float weigh(int32_t first, int32_t visible, float& total) const {
    const int32_t lane = threadIdx.x % 32;
    float score[2], most = -INFINITY;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int32_t token = lane + 32 * i;
      score[i] = -INFINITY;
      if (token >= visible) continue;
      const auto key = kv.key(token_at(first + token));
      float sum = 0;
      for (int32_t d = 0; d < kv.head_dim; ++d) sum = fmaf(q[d], key[d], sum);
      score[i] = sum;
      most = fmaxf(most, sum);
    }
    most = warp_max(most);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float weight = part_weight(score[i], most);
      p[lane + 32 * i] = weight;
      sum += weight;
    }
    total = warp_sum(sum);
    __syncwarp();
    return most;
  }

  // Tokens the query may not see are not even multiplied by zero: they may hold anything.
  __device__ float weighted_sum(int32_t first, int32_t visible, int32_t d) const {
    float sum = 0;
    for (int32_t token = 0; token < visible; ++token)
      sum = fmaf(p[token], kv.value(token_at(first + token))[d], sum);
    return sum;
  }
};

// A block takes one item and KV head after another, a warp one query after another.
template <class Kv>
__global__ void __launch_bounds__(kThreads)
    plain_items(const StepHeader* step, bool large, HeadShape shape, float scale, const float* q, Kv kv,
                AttentionParts parts) {
  const int32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, head_dim = shape.head_dim,
                group = shape.group();
  const AttentionItem* const items = step_items(step, large ? step->large_items : step->small_items);
  const int32_t count = large ? step->num_large_items : step->num_small_items;
  const int32_t* const rows = step_array(step, step->query_rows);
  const int32_t* const contexts = step_array(step, step->contexts);
  float* const mine = reinterpret_cast<float*>(shared_memory()) + warp * (2 * head_dim + kChunkTokens);
  float* const my_q = mine + kChunkTokens;
  float* const folded = my_q + head_dim;

  for (int32_t index = blockIdx.x; index < count * shape.kv_heads; index += gridDim.x) {
    const AttentionItem item = items[index / shape.kv_heads];
    const int32_t kv_head = index % shape.kv_heads;
    const PlainQuery<Kv> query = {
        kv, step_array(step, step->item_slots) + item.first_slot, shape.kv_heads, kv_head, my_q, mine};
    for (int32_t i = warp; i < item.num_rows * group; i += kWarps) {
      const int32_t row = i / group, head = kv_head * group + i % group;
      const int32_t context = contexts[item.first_row + row];
      const int64_t from = (static_cast<int64_t>(rows[item.first_row + row]) * shape.heads + head) * head_dim;
      for (int32_t d = lane; d < head_dim; d += 32) {
        my_q[d] = q[from + d] * scale;
        folded[d] = 0;
      }
      __syncwarp();
      float max = -INFINITY, total = 0;
      const auto leave = [&](int32_t part, float part_max, float part_total) {
        const int64_t at = static_cast<int64_t>(part) * shape.heads + head;
        if (lane == 0) {
          parts.scales[2 * at] = part_max;
          parts.scales[2 * at + 1] = part_total;
        }
        return parts.sums + at * head_dim;
      };
      for (int32_t first = 0; first < item.num_tokens; first += kChunkTokens) {
        const int32_t seen = context - item.first_position - first, left = item.num_tokens - first;
        const int32_t most = seen < left ? seen : left, visible = most < kChunkTokens ? most : kChunkTokens;
        if (visible <= 0) break;
        float chunk_total;
        const float chunk_max = query.weigh(first, visible, chunk_total);
        if (item.folded != 0) {
          const float common = fmaxf(max, chunk_max);
          const float weight = part_weight(max, common), chunk_weight = part_weight(chunk_max, common);
          for (int32_t d = lane; d < head_dim; d += 32)
            folded[d] = part_sum(folded[d], weight, query.weighted_sum(first, visible, d), chunk_weight);
          total = part_sum(total, weight, chunk_total, chunk_weight);
          max = common;
        } else {
          float* const sums =
              leave(item.first_part + first / kChunkTokens * item.num_rows + row, chunk_max, chunk_total);
          for (int32_t d = lane; d < head_dim; d += 32) sums[d] = query.weighted_sum(first, visible, d);
        }
        __syncwarp();
      }
      if (item.folded == 0) continue;
      float* const sums = leave(item.first_part + row, max, total);
      for (int32_t d = lane; d < head_dim; d += 32) sums[d] = folded[d];
    }
  }
}

size_t plain_shared_bytes(HeadShape shape) {
  return sizeof(float) * kWarps * (2 * shape.head_dim + kChunkTokens);
}

// Calls body<format of keys and values>().
template <class Body>
auto with_kv(KvFormat format, Body body) {
  if (format == KvFormat::f32) return body.template operator()<PlainKv<float>>();
  if (format == KvFormat::bf16) return body.template operator()<PlainKv<uint16_t>>();
  return body.template operator()<PlainFp8Kv>();
}

// A block merges one head of one row: chunks of a span in order, then spans in order.
__global__ void __launch_bounds__(kMaxMergeThreads)
    merge_heads(const StepHeader* step, HeadShape shape, AttentionParts parts, float* out,
                uint16_t* out_bf16) {
  const int32_t planned = blockIdx.x, head = blockIdx.y;
  if (planned >= step->planned_rows) return;
  const int32_t* const merge_begin = step_array(step, step->merge_begin) + planned;
  const int32_t* const codes = step_array(step, step->merge_parts);
  const int32_t row = step_array(step, step->query_rows)[planned];
  const int64_t to = (static_cast<int64_t>(row) * shape.heads + head) * shape.head_dim;
  for (int32_t d = threadIdx.x; d < shape.head_dim; d += blockDim.x) {
    PartValue result, span;
    for (int32_t k = merge_begin[0]; k < merge_begin[1]; ++k) {
      const int64_t at = static_cast<int64_t>(codes[k] / 2) * shape.heads + head;
      PartValue part;
      part.max = parts.scales[2 * at];
      part.total = parts.scales[2 * at + 1];
      part.sum = parts.sums[at * shape.head_dim + d];
      if (codes[k] % 2 != 0) {
        result.fold(span);
        span = part;
      } else {
        span.fold(part);
      }
    }
    result.fold(span);
    const float value = result.sum / result.total;
    out[to + d] = value;
    out_bf16[to + d] = bf16_bits(value);
  }
}

}  // namespace

void attention_plain(Stream stream, const StepHeader* step, HeadShape shape, const float* q, KvLayer kv,
                     AttentionParts parts, AttentionGrid grid) {
  const float scale = kLog2E / sqrtf(static_cast<float>(shape.head_dim));
  with_kv(kv.format, [&]<class Kv>() {
    for (const bool large : {false, true})
      launch<plain_items<Kv>>(stream, {static_cast<uint32_t>(large ? grid.large_blocks : grid.small_blocks)},
                              kThreads, plain_shared_bytes(shape), step, large, shape, scale, q,
                              Kv{kv, shape.head_dim}, parts);
  });
}

AttentionGrid attention_plain_grid(HeadShape shape, KvFormat format) {
  return with_kv(format, [&]<class Kv>() {
    const int32_t blocks = blocks_at_once<plain_items<Kv>>(kThreads, plain_shared_bytes(shape));
    return AttentionGrid{blocks, blocks};
  });
}

void attention_merge(Stream stream, const StepHeader* step, int32_t rows, HeadShape shape,
                     AttentionParts parts, float* out, uint16_t* out_bf16) {
  const Grid grid = {static_cast<uint32_t>(rows), static_cast<uint32_t>(shape.heads)};
  launch<merge_heads>(stream, grid, threads_for(shape.head_dim, kMaxMergeThreads), 0, step, shape, parts, out,
                      out_bf16);
}

}  // namespace apar::cuda
