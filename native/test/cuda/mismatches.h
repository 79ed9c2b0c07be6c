#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace apar::test {

// Compares a kernel's results with what they should be and, when some are wrong, says which, in the terms in
// which kernels go wrong: the first ones, and how many by row mod 8, by column mod 16 (the places of a
// thread's elements in an mma tile), by tile, and by part of the sum. check() prints all of it as one JSON
// line on standard output, {"mismatch": {...}}, which native/gpu/verify keeps.
class Mismatches {
 public:
  // `what` names the case, such as "gemm bf16 rows 7 in 72"; tiles are counted in its blocks' own size, 1 x 1
  // where there are none.
  explicit Mismatches(std::string what, int32_t tile_rows = 1, int32_t tile_columns = 1);

  // Wrong unless |got - want| <= allowed; NaN is wrong, whatever was wanted. `parts` names what contributed
  // to this element.
  void compare(int32_t row, int32_t column, double got, double want, double allowed,
               std::span<const std::string> parts = {});
  // Wrong unless both have the same bits.
  void same(int32_t row, int32_t column, float got, float want);
  // All of [rows, columns], to the bit.
  void same(std::span<const float> got, std::span<const float> want, int32_t columns);
  // Parts that were found wrong by themselves (compared by the caller), `count` elements of each.
  void part_is_wrong(const std::string& part, int64_t count);

  int64_t wrong() const { return wrong_; }
  // The largest |got - want| / allowed over all finite elements.
  double worst() const { return worst_; }
  std::string json() const;
  // Whether everything was right; prints json() if not.
  bool check() const;

 private:
  struct Element {
    int32_t row, column;
    double got, want;
  };
  void add(const Element& element, std::span<const std::string> parts);

  std::string what_;
  int32_t tile_rows_, tile_columns_;
  int64_t compared_ = 0, wrong_ = 0, nans_ = 0;
  double worst_ = 0;
  std::vector<Element> first_;
  std::vector<int64_t> by_row_, by_column_;
  std::map<std::string, int64_t> by_tile_, by_part_;
};

}  // namespace apar::test
