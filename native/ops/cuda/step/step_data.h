#pragma once

#include <cstdint>

namespace apar::cuda {

// The data that the kernels of a step read, at a fixed address in device memory. The arrays that it points to
// follow it; offsets are in 32-bit words from the start of the header. The shape of the tree is only here and
// never in a launch parameter. So launches that are captured once as a graph serve every step with the same
// number of rows.
struct StepHeader {
  int32_t rows = 0;
  int32_t logit_rows = 0;
  int32_t planned_rows = 0;
  int32_t num_items = 0;
  int32_t num_large_items = 0;
  // Offsets.
  int32_t tokens = 0;         // [rows]
  int32_t positions = 0;      // [rows]
  int32_t slots = 0;          // [rows]
  int32_t logit_row_ids = 0;  // [logit_rows]
  int32_t query_rows = 0;     // [planned_rows]
  int32_t contexts = 0;       // [planned_rows]
  int32_t items = 0;          // [num_items] AttentionItem, the large ones first
  int32_t item_slots = 0;
  int32_t chunk_slots = 0;
  int32_t merge_begin = 0;  // [planned_rows + 1]
  int32_t merge_partials = 0;
};

}  // namespace apar::cuda
