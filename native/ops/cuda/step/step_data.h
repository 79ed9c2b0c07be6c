#pragma once

#include <cstdint>

namespace apar::cuda {

// What a step's kernels need to know of it, at a fixed address in device memory, followed by the arrays that
// it points to (offsets in 32-bit words from the header's start). A tree's shape is only here, never in a
// launch: the same launches, recorded once in a graph, serve every step of as many rows.
struct StepHeader {
  int32_t rows = 0;
  int32_t logit_rows = 0;
  int32_t planned_rows = 0;
  int32_t num_small_items = 0;
  int32_t num_large_items = 0;
  // Offsets.
  int32_t tokens = 0;         // [rows]
  int32_t positions = 0;      // [rows]
  int32_t slots = 0;          // [rows]
  int32_t logit_row_ids = 0;  // [logit_rows]
  int32_t query_rows = 0;     // [planned_rows]
  int32_t contexts = 0;       // [planned_rows]
  int32_t small_items = 0;    // AttentionItem
  int32_t large_items = 0;
  int32_t item_slots = 0;
  int32_t merge_begin = 0;  // [planned_rows + 1]
  int32_t merge_parts = 0;
};

}  // namespace apar::cuda
