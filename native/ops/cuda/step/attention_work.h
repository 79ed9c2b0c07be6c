#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "common/step_batch.h"
#include "ops/cuda/step/kv_layout.h"

namespace apar::cuda {

// Attention sums the tokens of a row in chunks, and the chunks in spans. Chunks and spans lie at fixed
// positions of the row's path, the same for every row. So a chunk's partial result has the same bits
// whichever other rows read it, and wherever KV nodes end (docs/adr/0008).
constexpr int32_t kChunkTokens = 64;
constexpr int32_t kSpanTokens = 256;
constexpr int32_t kSpanChunks = kSpanTokens / kChunkTokens;

// The maximum number of query vectors (rows x heads of a group) of a small and of a large item.
constexpr int32_t kSmallQueries = 16;
constexpr int32_t kLargeQueries = 64;

// Whether sequences with a common prefix share one read of it. The results have the same bits either way.
enum class Sharing : uint8_t {
  always,   // wherever a chunk is on several paths
  never,    // plain paged attention: each sequence reads its own path
  by_cost,  // the alternative that moves the fewest bytes (docs/adr/0015)
};
// "shared", "plain", "auto". Throws Error{invalid_config} for any other name.
Sharing parse_sharing(const std::string& name);
// The value that the environment variable APAR_CUDA_ATTENTION names; by_cost if it is not set.
Sharing sharing_from_environment();

// The bytes that the attention of one KV head moves: per token that an item reads, per row whose queries an
// item reads, and per partial result of a row, which is written and read again.
struct AttentionBytes {
  int64_t token = 0;
  int64_t queries = 0;
  int64_t partial = 0;
};
// group: query heads per KV head. Queries and partial results are f32.
constexpr AttentionBytes attention_bytes(int32_t group, int32_t head_dim, KvFormat format) {
  constexpr int64_t kScaleBytes = 8;
  return {kv_token_bytes(format, head_dim), int64_t{4} * group * head_dim,
          2 * group * (int64_t{4} * head_dim + kScaleBytes)};
}

// A work item: tokens of one path within one span, and rows which all have these tokens on their paths. The
// tokens are read once per KV head. An item that begins at the start of its span has one partial result per
// row, in which its chunks are folded in order. Any other item has one partial result per row and chunk.
struct AttentionItem {
  int32_t first_slot = 0;  // token i lies in slot slots()[first_slot + i]
  int32_t num_tokens = 0;
  int32_t first_position = 0;  // a multiple of kChunkTokens
  int32_t first_row = 0;       // planned rows
  int32_t num_rows = 0;
  int32_t first_partial =
      0;  // row r and chunk c have partial first_partial + c * num_rows + r; c = 0 when folded
  int32_t folded = 0;
};

// The attention work list of one step. Rows are reordered so that the rows below a node are adjacent.
class AttentionWork {
 public:
  explicit AttentionWork(Sharing sharing = Sharing::always, AttentionBytes bytes = {})
      : sharing_(sharing), bytes_(bytes) {}

  // group: query heads that share a KV head. The list has at most max_partials partial results, and, unless
  // sharing is off, at most max_slots slots: sequences share more or less to stay below these limits.
  void build(const StepBatch& batch, int32_t group, int64_t max_partials,
             int64_t max_slots = std::numeric_limits<int64_t>::max());

  // For each planned row: its row in the batch, and the number of tokens that it sees, itself included.
  std::span<const int32_t> rows() const { return rows_; }
  std::span<const int32_t> contexts() const { return contexts_; }
  std::span<const AttentionItem> small_items() const { return small_; }
  std::span<const AttentionItem> large_items() const { return large_; }
  std::span<const int32_t> slots() const { return slots_; }
  // The partial results of planned row r by ascending position are merge_partials()[merge_begin()[r]] up to,
  // but not including, merge_partials()[merge_begin()[r + 1]]. Each is 2 * partial + (1 if it begins a span,
  // else 0).
  std::span<const int32_t> merge_begin() const { return merge_begin_; }
  std::span<const int32_t> merge_partials() const { return merge_partials_; }
  int32_t num_partials() const { return count_.partials; }
  // The bytes that the step moves per KV head.
  int64_t bytes() const { return bytes_of(count_); }

  // The number of partial results to allocate: one per row and span, and a few more for rows whose paths
  // diverge within a span.
  static int64_t max_partials(int32_t max_rows, int32_t max_context);

 private:
  // Chunks of one span on the current path, and the rows from begin_row on, which share them.
  struct Segment {
    int32_t begin_chunk, end_chunk, begin_row;
    int32_t sequence, context;  // of the row that sees most tokens
  };
  struct Partial {
    int32_t row, chunk, code;
  };
  struct Count {
    int64_t tokens = 0, rows = 0;  // over all items
    int64_t slots = 0;
    int32_t partials = 0;
  };

  void sort_sequences(const StepBatch& batch);
  void plan_rows(const StepBatch& batch);
  int32_t choose_granularity(const StepBatch& batch, int32_t group, int64_t max_partials, int64_t max_slots);
  void walk(const StepBatch& batch, int32_t group, int32_t granularity, bool listing);
  void close_beyond(const StepBatch& batch, int32_t group, int32_t chunk);
  void close(const StepBatch& batch, int32_t group, const Segment& segment);
  void add_tile(AttentionItem item, int32_t group);
  void append_slots(const StepBatch& batch, int32_t sequence, int32_t begin, int32_t end);
  void list_partials();

  int64_t bytes_of(const Count& count) const {
    return count.tokens * bytes_.token + count.rows * bytes_.queries + count.partials * bytes_.partial;
  }

  Sharing sharing_;
  AttentionBytes bytes_;
  std::vector<int32_t> order_;              // sequences, paths in lexicographic order
  std::vector<int32_t> common_;             // whole chunks that order_[i] shares with order_[i - 1]
  std::vector<Segment> open_;               // segments of the current path, by position
  std::vector<Partial> partials_, sorted_;  // the latter sorted by row, then by position
  std::vector<int32_t> next_;               // scratch
  std::vector<int32_t> rows_, contexts_, slots_, merge_begin_, merge_partials_;
  std::vector<AttentionItem> small_, large_;
  Count count_;
  bool listing_ = false;  // otherwise items are only counted
  int32_t end_row_ = 0;   // planned rows of the sequences visited so far
};

}  // namespace apar::cuda
