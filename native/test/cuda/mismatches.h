#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace apar::test {

// Compares the results of a kernel with the expected ones and describes the wrong ones in a form that helps
// to find the error in a kernel: the first wrong elements, and the number of wrong elements by row mod 8, by
// column mod 16 (the positions of a thread's elements in an mma tile), by tile, and by part of the sum.
// check() prints this as one JSON line on standard output, {"mismatch": {...}}, which native/gpu/verify
// saves.
class Mismatches {
 public:
  // `what` names the case, such as "gemm bf16 rows 7 in 72". The tile size should be that of the kernel's
  // blocks; it is 1 x 1 for kernels without tiles.
  explicit Mismatches(std::string what, int32_t tile_rows = 1, int32_t tile_columns = 1);

  // An element is wrong unless |got - want| <= allowed; a NaN is always wrong. `parts` names the parts of the
  // computation that contributed to the element.
  void compare(int32_t row, int32_t column, double got, double want, double allowed,
               std::span<const std::string> parts = {});
  // An element is wrong unless both numbers have the same bits.
  void same(int32_t row, int32_t column, float got, float want);
  // Compares all elements of [rows, columns] bit by bit.
  void same(std::span<const float> got, std::span<const float> want, int32_t columns);
  // Reports that the caller has found `count` wrong elements in the part itself.
  void part_is_wrong(const std::string& part, int64_t count);

  int64_t wrong() const { return wrong_; }
  // The largest |got - want| / allowed over all finite elements.
  double worst() const { return worst_; }
  std::string json() const;
  // Returns whether all elements were right; prints json() if not.
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
