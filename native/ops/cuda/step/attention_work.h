#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "common/step_batch.h"
#include "ops/cuda/step/kv_layout.h"

namespace apar::cuda {

// Attention sums a row's tokens chunk by chunk, chunks at fixed positions of the row's path, and chunks span
// by span. Both ends of a chunk are the same for every row, so its partial result has the same bits whoever
// else reads it and wherever KV nodes end (docs/adr/0008).
constexpr int32_t kChunkTokens = 64;
constexpr int32_t kSpanTokens = 256;
constexpr int32_t kSpanChunks = kSpanTokens / kChunkTokens;

// Query vectors (rows x heads of a group) of one item, small and large; items of one kind are one launch.
constexpr int32_t kSmallQueries = 16;
constexpr int32_t kLargeQueries = 64;

// Whether sequences with the same beginning read it together. The results have the same bits either way.
enum class Sharing : uint8_t {
  always,   // wherever a chunk is on several paths
  never,    // plain paged attention: each sequence reads its own path
  by_cost,  // whatever moves the fewest bytes (docs/adr/0015)
};
// "shared", "plain", "auto". Throws Error{invalid_config} for another name.
Sharing parse_sharing(const std::string& name);
// What APAR_CUDA_ATTENTION in the environment says, by_cost without it.
Sharing sharing_of_environment();

// Bytes that one KV head's attention moves: for a token read by an item, for a row's queries read by an item,
// and for a row's part, which is written and read again.
struct AttentionBytes {
  int64_t token = 0;
  int64_t queries = 0;
  int64_t part = 0;
};
// group: query heads of a KV head. Queries and parts are f32.
constexpr AttentionBytes attention_bytes(int32_t group, int32_t head_dim, KvFormat format) {
  constexpr int64_t kScaleBytes = 8;
  return {kv_token_bytes(format, head_dim), int64_t{4} * group * head_dim,
          2 * group * (int64_t{4} * head_dim + kScaleBytes)};
}

// Tokens of one path within one span, and rows that all have them on their paths: read once per KV head. An
// item that begins with its span leaves one partial result per row, its chunks folded in order; another
// leaves one per chunk.
struct AttentionItem {
  int32_t first_slot = 0;  // token i lies in slots()[first_slot + i]
  int32_t num_tokens = 0;
  int32_t first_position = 0;  // a multiple of kChunkTokens
  int32_t first_row = 0;       // planned rows
  int32_t num_rows = 0;
  int32_t first_part = 0;  // part of row r and chunk c: first_part + c * num_rows + r, c = 0 when folded
  int32_t folded = 0;
};

// The attention's work list of one step. Rows are reordered so that the rows below a node stand side by side.
class AttentionWork {
 public:
  explicit AttentionWork(Sharing sharing = Sharing::always, AttentionBytes bytes = {})
      : sharing_(sharing), bytes_(bytes) {}

  // group: query heads that share a KV head. Never leaves more than max_parts partial results, nor, unless
  // nothing is to be shared, lists more than max_slots slots: sequences share less, or more, instead.
  void build(const StepBatch& batch, int32_t group, int64_t max_parts,
             int64_t max_slots = std::numeric_limits<int64_t>::max());

  // Batch row and visible tokens (itself included) of each planned row.
  std::span<const int32_t> rows() const { return rows_; }
  std::span<const int32_t> contexts() const { return contexts_; }
  std::span<const AttentionItem> small_items() const { return small_; }
  std::span<const AttentionItem> large_items() const { return large_; }
  std::span<const int32_t> slots() const { return slots_; }
  // The partial results of planned row r, by position: merge_parts()[merge_begin()[r] ... merge_begin()[r +
  // 1]), each 2 * part + (the part begins a span).
  std::span<const int32_t> merge_begin() const { return merge_begin_; }
  std::span<const int32_t> merge_parts() const { return merge_parts_; }
  int32_t num_parts() const { return count_.parts; }
  // What the step moves, in bytes per KV head.
  int64_t bytes() const { return bytes_of(count_); }

  // Partial results to make room for: one per row and span, and a few more for rows whose paths part within a
  // span.
  static int64_t max_parts(int32_t max_rows, int32_t max_context);

 private:
  struct Segment {
    int32_t begin_chunk, end_chunk, begin_row;
    int32_t sequence, context;  // of the row that sees most of it
  };
  struct Part {
    int32_t row, chunk, code;
  };
  struct Count {
    int64_t tokens = 0, rows = 0;  // over all items
    int64_t slots = 0;
    int32_t parts = 0;
  };

  void sort_sequences(const StepBatch& batch);
  void plan_rows(const StepBatch& batch);
  int32_t choose_granularity(const StepBatch& batch, int32_t group, int64_t max_parts, int64_t max_slots);
  void walk(const StepBatch& batch, int32_t group, int32_t granularity, bool listing);
  void close_beyond(const StepBatch& batch, int32_t group, int32_t chunk);
  void close(const StepBatch& batch, int32_t group, const Segment& segment);
  void add_tile(AttentionItem item, int32_t group);
  void append_slots(const StepBatch& batch, int32_t sequence, int32_t begin, int32_t end);
  void list_parts();

  int64_t bytes_of(const Count& count) const {
    return count.tokens * bytes_.token + count.rows * bytes_.queries + count.parts * bytes_.part;
  }

  Sharing sharing_;
  AttentionBytes bytes_;
  std::vector<int32_t> order_;        // sequences, paths in lexicographic order
  std::vector<int32_t> common_;       // of order_[i], whole chunks that it shares with order_[i - 1]
  std::vector<Segment> open_;         // of the current path, by position
  std::vector<Part> parts_, sorted_;  // the latter by row, then position
  std::vector<int32_t> next_;         // scratch
  std::vector<int32_t> rows_, contexts_, slots_, merge_begin_, merge_parts_;
  std::vector<AttentionItem> small_, large_;
  Count count_;
  bool listing_ = false;  // else items are only counted
  int32_t end_row_ = 0;   // planned rows of the sequences so far
};

}  // namespace apar::cuda
