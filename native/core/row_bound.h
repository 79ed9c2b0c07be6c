#pragma once

#include <array>
#include <cstdint>

namespace apar {

// How many rows a step should have while several tenants share the engine. More rows make a step longer, and
// with it the time between two tokens of everybody; beyond some number of rows, which depends on model and
// device, they add no throughput. Finds the smallest number of rows, a power of two, with at least kEnough of
// the best throughput measured, and now and then tries half and twice of it.
class RowBound {
 public:
  explicit RowBound(int32_t max_rows) : max_rows_(max_rows) {}

  // Rows of the next step.
  int32_t next();
  // A step of `rows` rows, nearly all of them decoding, took this long.
  void measured(int32_t rows, double seconds);
  // The number of rows in use, without trials.
  int32_t rows() const;

 private:
  enum class Phase : uint8_t { use, try_fewer, try_more };

  static constexpr int kSizes = 20;
  static constexpr int kSmallest = 3;  // 8 rows: fewer leave a matrix kernel idle on every device

  int largest_measured() const;
  bool choose();
  void next_phase();

  const int32_t max_rows_;
  std::array<double, kSizes> rate_{};  // [log2 of the rows] rows per second, averaged; 0: never measured
  std::array<int32_t, kSizes> samples_{};
  int size_ = -1;  // log2 of the rows in use; -1: as many as there are
  Phase phase_ = Phase::use;
  int32_t steps_left_ = 0;     // of the phase
  int32_t phases_in_use_ = 1;  // between two trials
  bool more_is_next_ = false;
};

}  // namespace apar
