// Attention over the work list for any shape, and the merge of partial results. mma.cu is the fast kernel.
#include "ops/cuda/attention/attention.h"
#include "ops/cuda/attention/math.cuh"
#include "ops/cuda/device/float8.cuh"
#include "ops/cuda/device/overlap.cuh"
#include "ops/cuda/step/step_access.cuh"

namespace apar::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr uint32_t kMaxMergeThreads = 256;

__device__ inline float widen(float value) {
  return value;
}
__device__ inline float widen(uint16_t bits) {
  return bf16_float(bits);
}

// Reads a layer's keys and values. `token` is the index of a token and KV head that pool_token() returns.
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

// One query and one chunk, computed by a warp: first the scores of the visible tokens, with lanes as tokens,
// and their weights in `p`; then the weighted sum of values, with lanes as dimensions.
template <class Kv>
struct PlainQuery {
  Kv kv;
  const StepHeader* step;
  AttentionItem item;
  int32_t kv_heads, kv_head;
  const float* q;  // scaled, in shared memory
  float* p;        // [kChunkTokens], in shared memory

  __device__ int64_t token_at(int32_t index) const {
    return pool_token(item_slot(step, item, index), kv_heads, kv_head);
  }

  // Computes the chunk's weights and returns its largest score; `total` becomes the sum of the weights.
  __device__ float softmax_weights(int32_t first, int32_t visible, float& total) const {
    const int32_t lane = threadIdx.x % 32;
    float score[2], max = -INFINITY;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int32_t token = lane + 32 * i;
      score[i] = -INFINITY;
      if (token >= visible) continue;
      const auto key = kv.key(token_at(first + token));
      float sum = 0;
      for (int32_t d = 0; d < kv.head_dim; ++d) sum = fmaf(q[d], key[d], sum);
      score[i] = sum;
      max = fmaxf(max, sum);
    }
    max = warp_max(max);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float weight = partial_weight(score[i], max);
      p[lane + 32 * i] = weight;
      sum += weight;
    }
    total = warp_sum(sum);
    __syncwarp();
    return max;
  }

  // Tokens that the query may not see are skipped, not multiplied by zero: their memory may hold NaN.
  __device__ float weighted_sum(int32_t first, int32_t visible, int32_t d) const {
    float sum = 0;
    for (int32_t token = 0; token < visible; ++token)
      sum = fmaf(p[token], kv.value(token_at(first + token))[d], sum);
    return sum;
  }
};

// A block computes one pair of a work item and a KV head after another, a warp one query after another.
template <class Kv>
__global__ void __launch_bounds__(kThreads, 4)
    plain_items(const StepHeader* step, HeadShape shape, float scale, const float* q, Kv kv,
                AttentionPartials partials) {
  begin_overlapping();
  const int32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, head_dim = shape.head_dim,
                group = shape.group();
  const AttentionItem* const items = step_items(step, step->items);
  const int32_t* const rows = step_array(step, step->query_rows);
  const int32_t* const contexts = step_array(step, step->contexts);
  float* const mine = reinterpret_cast<float*>(shared_memory()) + warp * (3 * head_dim + kChunkTokens);
  float* const my_q = mine + kChunkTokens;
  float* const folded = my_q + head_dim;    // the span so far
  float* const result = folded + head_dim;  // the spans before

  for (int32_t index = blockIdx.x; index < step->num_items * shape.kv_heads; index = next_in_turn(index)) {
    const AttentionItem item = items[index / shape.kv_heads];
    const int32_t kv_head = index % shape.kv_heads;
    const PlainQuery<Kv> query = {kv, step, item, shape.kv_heads, kv_head, my_q, mine};
    for (int32_t i = warp; i < item.num_rows * group; i += kWarps) {
      const int32_t row = i / group, head = kv_head * group + i % group;
      const int32_t context = contexts[item.first_row + row];
      const int64_t from = (static_cast<int64_t>(rows[item.first_row + row]) * shape.heads + head) * head_dim;
      for (int32_t d = lane; d < head_dim; d += 32) {
        my_q[d] = q[from + d] * scale;
        folded[d] = result[d] = 0;
      }
      __syncwarp();
      float max = -INFINITY, total = 0, result_max = -INFINITY, result_total = 0;
      const auto end_span = [&] {
        const float common = fmaxf(result_max, max);
        const float weight = partial_weight(result_max, common), span_weight = partial_weight(max, common);
        for (int32_t d = lane; d < head_dim; d += 32) {
          result[d] = merged_sum(result[d], weight, folded[d], span_weight);
          folded[d] = 0;
        }
        result_total = merged_sum(result_total, weight, total, span_weight);
        result_max = common;
        max = -INFINITY;
        total = 0;
      };
      // Writes the scales of a partial result and returns where its sums go.
      const auto store_scales = [&](int32_t partial, float partial_max, float partial_total) {
        const int64_t at = static_cast<int64_t>(partial) * shape.heads + head;
        if (lane == 0) {
          partials.scales[2 * at] = partial_max;
          partials.scales[2 * at + 1] = partial_total;
        }
        return partials.sums + at * head_dim;
      };
      for (int32_t first = 0; first < item.num_tokens; first += kChunkTokens) {
        const int32_t seen = context - item.first_position - first, left = item.num_tokens - first;
        const int32_t max_visible = seen < left ? seen : left;
        const int32_t visible = max_visible < kChunkTokens ? max_visible : kChunkTokens;
        if (visible <= 0) break;
        if (first > 0 && first % kSpanTokens == 0) end_span();
        float chunk_total;
        const float chunk_max = query.softmax_weights(first, visible, chunk_total);
        if (item.folded != 0) {
          const float common = fmaxf(max, chunk_max);
          const float weight = partial_weight(max, common), chunk_weight = partial_weight(chunk_max, common);
          for (int32_t d = lane; d < head_dim; d += 32)
            folded[d] = merged_sum(folded[d], weight, query.weighted_sum(first, visible, d), chunk_weight);
          total = merged_sum(total, weight, chunk_total, chunk_weight);
          max = common;
        } else {
          float* const sums = store_scales(item.first_partial + first / kChunkTokens * item.num_rows + row,
                                           chunk_max, chunk_total);
          for (int32_t d = lane; d < head_dim; d += 32) sums[d] = query.weighted_sum(first, visible, d);
        }
        __syncwarp();
      }
      if (item.folded == 0) continue;
      end_span();
      float* const sums = store_scales(item.first_partial + row, result_max, result_total);
      for (int32_t d = lane; d < head_dim; d += 32) sums[d] = result[d];
    }
  }
}

size_t plain_shared_bytes(HeadShape shape) {
  return sizeof(float) * kWarps * (3 * shape.head_dim + kChunkTokens);
}

// Calls body<Kv>() with the class that reads keys and values of this format.
template <class Body>
auto with_kv(KvFormat format, Body body) {
  if (format == KvFormat::f32) return body.template operator()<PlainKv<float>>();
  if (format == KvFormat::bf16) return body.template operator()<PlainKv<uint16_t>>();
  return body.template operator()<PlainFp8Kv>();
}

// A block merges one head of one row. It folds the chunks of a span in order, and the spans in order.
__global__ void __launch_bounds__(kMaxMergeThreads)
    merge_heads(const StepHeader* step, HeadShape shape, AttentionPartials partials, float* out,
                uint16_t* out_bf16) {
  begin_overlapping();
  const int32_t planned = blockIdx.x, head = blockIdx.y;
  if (planned >= step->planned_rows) return;
  const int32_t* const merge_begin = step_array(step, step->merge_begin) + planned;
  const int32_t* const codes = step_array(step, step->merge_partials);
  const int32_t row = step_array(step, step->query_rows)[planned];
  const int64_t to = (static_cast<int64_t>(row) * shape.heads + head) * shape.head_dim;
  for (int32_t d = threadIdx.x; d < shape.head_dim; d += blockDim.x) {
    PartialValue result, span;
    for (int32_t k = merge_begin[0]; k < merge_begin[1]; ++k) {
      const int64_t at = static_cast<int64_t>(codes[k] / 2) * shape.heads + head;
      PartialValue partial;
      partial.max = partials.scales[2 * at];
      partial.total = partials.scales[2 * at + 1];
      partial.sum = partials.sums[at * shape.head_dim + d];
      if (codes[k] % 2 != 0) {
        result.fold(span);
        span = partial;
      } else {
        span.fold(partial);
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
                     AttentionPartials partials, AttentionGrid grid) {
  const float scale = kLog2E / sqrtf(static_cast<float>(shape.head_dim));
  with_kv(kv.format, [&]<class Kv>() {
    launch_overlapping<plain_items<Kv>>(stream, {static_cast<uint32_t>(grid.blocks)}, kThreads,
                                        plain_shared_bytes(shape), step, shape, scale, q,
                                        Kv{kv, shape.head_dim}, partials);
  });
}

AttentionGrid attention_plain_grid(HeadShape shape, KvFormat format) {
  return with_kv(format, [&]<class Kv>() {
    return AttentionGrid{blocks_at_once<plain_items<Kv>>(kThreads, plain_shared_bytes(shape))};
  });
}

void attention_merge(Stream stream, const StepHeader* step, int32_t rows, HeadShape shape,
                     AttentionPartials partials, float* out, uint16_t* out_bf16) {
  const Grid grid = {static_cast<uint32_t>(rows), static_cast<uint32_t>(shape.heads)};
  launch_overlapping<merge_heads>(stream, grid, threads_for(shape.head_dim, kMaxMergeThreads), 0, step, shape,
                                  partials, out, out_bf16);
}

}  // namespace apar::cuda
