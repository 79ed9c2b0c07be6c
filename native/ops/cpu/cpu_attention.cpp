// Rotary embedding, the writes to the KV pool, and attention over the work list.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "common/float16.h"
#include "ops/cpu/cpu_ops.h"

namespace apar::cpu {
namespace {

constexpr int32_t kQueryGroup = 8;  // queries that share one load of a key or value
static_assert(kQueryGroup % kQueryPadding == 0);

// Writes the key of the token at `offset` of a block, in the layouts of kernels.h.
void store_key(float* block, int32_t offset, const float* key, int32_t head_dim) {
  for (int32_t i = 0; i < head_dim; ++i) block[i * kBlockTokens + offset] = key[i];
}
void store_key(uint16_t* block, int32_t offset, const uint16_t* key, int32_t head_dim) {
  for (int32_t i = 0; i < head_dim; i += 2)
    std::memcpy(block + (i / 2 * kBlockTokens + offset) * 2, key + i, 2 * sizeof(uint16_t));
}

void prefetch(const void* block, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(static_cast<const std::byte*>(block) + at);
}

// The tokens of one block that belong to one node, and some of the tile's queries that attend to them.
struct Piece {
  int32_t block = 0;
  int32_t offset = 0;          // of the first token in the block
  int32_t position = 0;        // of that token
  int32_t query = 0;           // first of `queries`
  int32_t queries = 0;         // at most kQueryGroup
  int32_t visible_to_all = 0;  // tokens that every query sees
  int32_t visible_to_any = 0;  // tokens that at least one query sees
  int32_t next_block = 0;      // the node's next block, or this one at the node's end
};

}  // namespace

// The angles are computed when a position is first reached: a table for the whole context would delay the
// start of a model with a context of millions of tokens, and take its memory.
// Angles are rounded to f32 as in transformers' LlamaRotaryEmbedding. Without that rounding they would be the
// largest difference from transformers at position 4,000.
void CpuOps::extend_rope_table(int32_t positions) {
  constexpr int64_t kAtOnce = 128;  // so that few steps of a decoding branch extend it
  if (positions <= rope_positions_) return;
  const auto pairs = static_cast<int64_t>(config_.rope_frequencies.size());
  const int32_t begin = rope_positions_;
  const auto end = static_cast<int32_t>(std::min<int64_t>(positions + kAtOnce - 1, config_.max_context));
  const double scale = config_.rope_scale;
  for (int64_t i = 0; i < pairs; ++i) {
    for (int32_t position = begin; position < end; ++position) {
      const float angle = static_cast<float>(position) * config_.rope_frequencies[static_cast<size_t>(i)];
      float* const cos = rope_ + position * 2 * pairs + i;
      cos[0] = static_cast<float>(std::cos(double{angle}) * scale);
      cos[pairs] = static_cast<float>(std::sin(double{angle}) * scale);
    }
  }
  rope_positions_ = end;
}

template <class Element>
void CpuOps::rope_and_store_row(int32_t layer, int32_t row, float* q, float* k, const float* v,
                                const HeadTransform& transform, uint16_t* rounded) {
  const int32_t head_dim = config_.head_dim;
  const auto pairs = static_cast<int64_t>(config_.rope_frequencies.size());
  const float* const cos = rope_ + batch_->positions[row] * 2 * pairs;
  const auto apply = [&](float* head, const float* norm) {
    if (norm != nullptr) kernels_.rms_norm(head, norm, transform.norm_eps, head_dim, head);
    if (transform.rotate) kernels_.rotate(head, cos, cos + pairs, pairs);
  };
  for (int32_t head = 0; head < config_.num_heads; ++head)
    apply(q + (int64_t{row} * config_.num_heads + head) * head_dim, transform.q_norm);
  const int32_t block = batch_->slots[row] / kBlockTokens, offset = batch_->slots[row] % kBlockTokens;
  for (int32_t head = 0; head < config_.num_kv_heads; ++head) {
    const int64_t at = (int64_t{row} * config_.num_kv_heads + head) * head_dim;
    apply(k + at, transform.k_norm);
    Element* const keys = kv_.keys<Element>(layer, block, head);
    Element* const value = kv_.values<Element>(layer, block, head) + offset * kv_.stride();
    if constexpr (std::is_same_v<Element, float>) {
      store_key(keys, offset, k + at, head_dim);
      std::copy_n(v + at, head_dim, value);
    } else {
      kernels_.bf16.prepare(k + at, head_dim, reinterpret_cast<std::byte*>(rounded));
      store_key(keys, offset, rounded, head_dim);
      kernels_.bf16.prepare(v + at, head_dim, reinterpret_cast<std::byte*>(value));
    }
  }
}

void CpuOps::rope_and_store(int32_t layer, float* q, float* k, const float* v,
                            const HeadTransform& transform) {
  for_each_row(batch_->rows(), (config_.num_heads + 2 * config_.num_kv_heads) * config_.head_dim,
               [&](int64_t row, int32_t thread) {
                 uint16_t* const rounded = scratch_[thread].rounded;
                 if (config_.kv_format == KvFormat::f32)
                   rope_and_store_row<float>(layer, static_cast<int32_t>(row), q, k, v, transform, rounded);
                 else
                   rope_and_store_row<uint16_t>(layer, static_cast<int32_t>(row), q, k, v, transform,
                                                rounded);
               });
}

void CpuOps::attention(int32_t layer, const float* q, float* out) {
  const auto tiles = plan_.tiles();
  const int64_t heads = config_.num_kv_heads;
  pool_.parallel_for(static_cast<int64_t>(tiles.size()) * heads, [&](int64_t index, int32_t thread) {
    const AttentionTile& tile = tiles[index / heads];
    const auto kv_head = static_cast<int32_t>(index % heads);
    if (config_.kv_format == KvFormat::f32)
      attend_tile<float>(layer, kv_head, tile, q, out, scratch_[thread]);
    else
      attend_tile<uint16_t>(layer, kv_head, tile, q, out, scratch_[thread]);
  });
}

// Two passes over the tile's nodes: the first computes all scores, the second sums the values, weighted by
// the softmax of the scores. Both go from the root down, so that every row reads its tokens by ascending
// position and adds them in the same order however the tree is cut into nodes.
template <class Element>
void CpuOps::attend_tile(int32_t layer, int32_t kv_head, const AttentionTile& tile, const float* q,
                         float* out, const Scratch& scratch) {
  constexpr bool kF32 = sizeof(Element) == sizeof(float);
  const int32_t head_dim = config_.head_dim, group = config_.num_heads / config_.num_kv_heads;
  const int64_t stride = kv_.stride();
  const auto rows = plan_.rows(), contexts = plan_.contexts();
  const auto segments = plan_.segments().subspan(tile.begin_segment, tile.end_segment - tile.begin_segment);
  // Query i of the tile belongs to planned row begin_row + i / group.
  const auto context_of = [&](int32_t query) { return contexts[tile.begin_row + query / group]; };
  const auto row_of_batch = [&](int32_t query) {
    return (int64_t{rows[tile.begin_row + query / group]} * config_.num_heads + int64_t{kv_head} * group +
            query % group) *
           head_dim;
  };
  const int32_t queries = (tile.end_row - tile.begin_row) * group;

  const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  for (int32_t query = 0; query < queries; ++query) {
    const float* const source = q + row_of_batch(query);
    float* const scaled = scratch.queries + query * head_dim;
    for (int32_t i = 0; i < head_dim; ++i) scaled[i] = source[i] * scale;
    if constexpr (!kF32)
      kernels_.bf16.prepare(scaled, head_dim,
                            reinterpret_cast<std::byte*>(scratch.rounded + query * head_dim));
  }
  std::fill_n(scratch.sums, queries * stride, 0.0f);

  // Calls visit(piece) for every block of every node and for up to kQueryGroup queries at a time, if one of
  // them sees a token of it.
  const auto for_each_piece = [&](auto visit) {
    for (const AttentionSegment& segment : segments) {
      const KvNodeView& node = batch_->nodes[segment.node];
      const int32_t begin = (segment.begin_row - tile.begin_row) * group;
      const int32_t end = (segment.end_row - tile.begin_row) * group;
      const auto seen = contexts.subspan(segment.begin_row, segment.end_row - segment.begin_row);
      const int32_t seen_by_all = *std::min_element(seen.begin(), seen.end());
      for (int32_t first = 0; first < node.num_tokens;) {
        const int32_t at = node.first_offset + first, offset = at % kBlockTokens;
        const int32_t tokens = std::min(kBlockTokens - offset, node.num_tokens - first);
        Piece piece = {node.blocks[at / kBlockTokens], offset, segment.first_position + first};
        piece.next_block =
            first + tokens < node.num_tokens ? node.blocks[at / kBlockTokens + 1] : piece.block;
        const bool whole = seen_by_all >= piece.position + tokens;
        for (piece.query = begin; piece.query < end; piece.query += kQueryGroup) {
          piece.queries = std::min(kQueryGroup, end - piece.query);
          piece.visible_to_all = tokens;
          piece.visible_to_any = whole ? tokens : 0;
          for (int32_t i = piece.query; !whole && i < piece.query + piece.queries; ++i) {
            const int32_t visible = std::clamp(context_of(i) - piece.position, 0, tokens);
            piece.visible_to_all = std::min(piece.visible_to_all, visible);
            piece.visible_to_any = std::max(piece.visible_to_any, visible);
          }
          if (piece.visible_to_any > 0) visit(piece);
        }
        first += tokens;
      }
    }
  };

  for_each_piece([&](const Piece& piece) {
    const Element* const keys = kv_.keys<Element>(layer, piece.block, kv_head);
    prefetch(kv_.keys<Element>(layer, piece.next_block, kv_head), kBlockTokens * head_dim * sizeof(Element));
    float* const to = scratch.scores + piece.query * sizes_.score_stride + piece.position;
    // The kernel computes whole blocks. If the node's tokens begin at offset 0, the child node overwrites the
    // scores behind the node's end. Otherwise the scores before the offset belong to another node, and only
    // the node's own are copied.
    float block_scores[kQueryGroup * kBlockTokens];
    const bool in_place = piece.offset == 0;
    float* const target = in_place ? to : block_scores;
    const int64_t target_stride = in_place ? sizes_.score_stride : kBlockTokens;
    if constexpr (kF32)
      kernels_.scores_f32(keys, scratch.queries + piece.query * head_dim, piece.queries, head_dim, target,
                          target_stride);
    else
      kernels_.scores_bf16(keys, scratch.rounded + piece.query * head_dim, piece.queries, head_dim, target,
                           target_stride);
    for (int32_t i = 0; !in_place && i < piece.queries; ++i)
      std::copy_n(block_scores + i * kBlockTokens + piece.offset, piece.visible_to_any,
                  to + i * sizes_.score_stride);
  });

  float* const totals = scratch.queries;  // reuses the memory of the queries, which are no longer needed
  for (int32_t query = 0; query < queries; ++query)
    totals[query] = kernels_.softmax(scratch.scores + query * sizes_.score_stride, context_of(query));

  for_each_piece([&](const Piece& piece) {
    const Element* const values = kv_.values<Element>(layer, piece.block, kv_head) + piece.offset * stride;
    prefetch(kv_.values<Element>(layer, piece.next_block, kv_head), kBlockTokens * stride * sizeof(Element));
    const auto accumulate = [&](int32_t query, int32_t count, int32_t begin, int32_t tokens) {
      const float* const p = scratch.scores + query * sizes_.score_stride + piece.position + begin;
      float* const sums = scratch.sums + query * stride;
      if constexpr (kF32)
        kernels_.values_f32(values + begin * stride, tokens, stride, p, sizes_.score_stride, count, sums);
      else
        kernels_.values_bf16(values + begin * stride, tokens, stride, p, sizes_.score_stride, count, sums);
    };
    accumulate(piece.query, piece.queries, 0, piece.visible_to_all);
    // A token that a row may not see is skipped, not multiplied by zero: its memory may hold NaN.
    for (int32_t i = piece.query;
         piece.visible_to_all < piece.visible_to_any && i < piece.query + piece.queries; ++i) {
      const int32_t visible =
          std::clamp(context_of(i) - piece.position, piece.visible_to_all, piece.visible_to_any);
      accumulate(i, 1, piece.visible_to_all, visible - piece.visible_to_all);
    }
  });

  for (int32_t query = 0; query < queries; ++query) {
    const float* const sums = scratch.sums + query * stride;
    float* const target = out + row_of_batch(query);
    for (int32_t i = 0; i < head_dim; ++i) target[i] = sums[i] / totals[query];
  }
}

}  // namespace apar::cpu
