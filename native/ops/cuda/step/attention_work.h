#pragma once

#include <algorithm>
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

// A work item: tokens of one path, and rows which all have these tokens on their paths. The tokens are read
// once per KV head. They lie within one span, except that an item from the start of the path on may have
// several spans. An item that begins at the start of a span has one partial result per row, in which the
// chunks of each span are folded in order, and then the spans. Any other item has one partial result per row
// and chunk.
struct AttentionItem {
  int32_t first_slot = 0;         // token i lies in slot slots()[first_slot + i], unless the item has
  int32_t first_chunk_slot = -1;  // this: token i of chunk c lies in slots()[chunk_slots()[this + c] + i]
  int32_t num_tokens = 0;
  int32_t first_position = 0;  // a multiple of kChunkTokens
  int32_t first_row = 0;       // planned rows
  int32_t num_rows = 0;
  int32_t first_partial =
      0;  // row r and chunk c have partial first_partial + c * num_rows + r; c = 0 when folded
  int32_t folded = 0;
};

// What a work list has to fit into.
struct AttentionLimits {
  int64_t partials = 0;                                 // at least one per row
  int64_t slots = std::numeric_limits<int64_t>::max();  // ignored where sharing is off
  int32_t busy_items = 0;                               // that keep the device busy; 0: not considered
};

// The attention work list of one step. Rows are reordered so that the rows below a node are adjacent.
class AttentionWork {
 public:
  explicit AttentionWork(Sharing sharing = Sharing::always, AttentionBytes bytes = {})
      : sharing_(sharing), bytes_(bytes) {}

  // group: query heads that share a KV head. To stay below the limits, sequences share more or less, and
  // items from the start of a path on have more spans. To keep the device busy, the spans of few rows are
  // divided into chunks.
  void build(const StepBatch& batch, int32_t group, const AttentionLimits& limits);

  // For each planned row: its row in the batch, and the number of tokens that it sees, itself included.
  std::span<const int32_t> rows() const { return rows_; }
  std::span<const int32_t> contexts() const { return contexts_; }
  std::span<const AttentionItem> small_items() const { return small_; }
  std::span<const AttentionItem> large_items() const { return large_; }
  std::span<const int32_t> slots() const { return slots_; }
  std::span<const int32_t> chunk_slots() const { return chunk_slots_; }
  // The partial results of planned row r by ascending position are merge_partials()[merge_begin()[r]] up to,
  // but not including, merge_partials()[merge_begin()[r + 1]]. Each is 2 * partial + (1 if it begins a span,
  // else 0).
  std::span<const int32_t> merge_begin() const { return merge_begin_; }
  std::span<const int32_t> merge_partials() const { return merge_partials_; }
  int32_t num_partials() const { return count_.partials; }
  // The bytes that the step moves per KV head.
  int64_t bytes() const { return bytes_of(count_); }

  // The largest number of partial results that a list makes good use of: one per row and span, and a few more
  // for rows whose paths diverge within a span; or, of few rows, one per row and chunk.
  static int64_t max_partials(int32_t max_rows, int32_t max_context);

 private:
  static constexpr int32_t kNoSharing = std::numeric_limits<int32_t>::max();
  static constexpr int32_t kWholePath = int32_t{1} << 20;  // spans

  // How the tokens of all paths are divided into items.
  struct Division {
    int32_t granularity = kNoSharing;  // rows share multiples of this number of chunks
    int32_t item_chunks = kSpanChunks;
    // The spans of the first item of a path: of a prompt, of other rows.
    int32_t prompt_spans = 1, row_spans = 1;
  };
  // Chunks of one span on the current path, and the rows from begin_row on, which share them.
  struct Segment {
    int32_t begin_chunk, end_chunk, begin_row;
    int32_t sequence, context;  // of the row that sees most tokens
    int32_t least_context;      // of the row that sees fewest
  };
  // Rows from begin_row on whose first items have the same tokens: several spans from the start of the path.
  struct Lead {
    AttentionItem item;
    int32_t begin_row = 0;
  };
  struct Partial {
    int32_t row, chunk, code;
  };
  struct Count {
    int64_t tokens = 0, rows = 0;  // over all items
    int64_t slots = 0, items = 0;
    int32_t partials = 0;
  };

  void sort_sequences(const StepBatch& batch);
  void plan_rows(const StepBatch& batch);
  bool is_prompt(const StepBatch& batch, int32_t sequence) const;
  Division choose_division(const StepBatch& batch, const AttentionLimits& limits);
  Division fitting(Division division, int64_t max_partials) const;
  int64_t partials_of(const Division& division) const;
  void walk(const StepBatch& batch, const Division& division, bool listing);
  void lead(const StepBatch& batch, size_t place, int32_t chunks);
  void close_lead();
  void close_beyond(const StepBatch& batch, int32_t chunk);
  void close(const StepBatch& batch, const Segment& segment);
  void add_tiles(AttentionItem item, int32_t begin_row, int32_t least_context);
  void add_tile(AttentionItem item);
  void append_slots(const StepBatch& batch, int32_t sequence, int32_t begin, int32_t end);
  void list_partials();

  int32_t tile_rows() const { return std::max(1, kLargeQueries / group_); }
  int64_t bytes_of(const Count& count) const {
    return count.tokens * bytes_.token + count.rows * bytes_.queries + count.partials * bytes_.partial;
  }

  Sharing sharing_;
  AttentionBytes bytes_;
  std::vector<int32_t> order_;              // sequences, paths in lexicographic order
  std::vector<int32_t> common_;             // tokens that order_[i] shares with order_[i - 1]
  std::vector<Segment> open_;               // segments of the current path, by position
  std::vector<Partial> partials_, sorted_;  // the latter sorted by row, then by position
  std::vector<int32_t> next_;               // scratch
  std::vector<int32_t> rows_, contexts_, slots_, chunk_slots_, merge_begin_, merge_partials_;
  std::vector<int32_t> lead_slots_;  // of the chunks of the current path, as chunk_slots()
  int32_t lead_tokens_ = 0;          // of the current path that lead_slots_ lists
  Lead lead_;                        // its item has no tokens if there is none
  int32_t group_ = 1;
  int32_t prompts_ = 0, prompt_rows_ = 0, prompt_tiles_ = 0;  // at the beginning of order_ and of rows_
  std::vector<AttentionItem> small_, large_;
  Count count_;
  bool listing_ = false;  // otherwise items are only counted
  int32_t end_row_ = 0;   // planned rows of the sequences visited so far
};

}  // namespace apar::cuda
