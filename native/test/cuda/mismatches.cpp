#include "test/cuda/mismatches.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <sstream>
#include <utility>

namespace apar::test {
namespace {

constexpr size_t kMaxFirst = 8;
constexpr size_t kMaxTiles = 12;  // those with most errors; a kernel that is all wrong has thousands of tiles
constexpr int kMaxDumps = 8;      // of one process

// A number in the form that Python's json module reads.
std::string number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  std::ostringstream text;
  text.precision(9);
  text << value;
  return text.str();
}

std::string list(const std::vector<int64_t>& counts) {
  std::string text;
  for (const int64_t count : counts) text += (text.empty() ? "" : ", ") + std::to_string(count);
  return "[" + text + "]";
}

// The largest counts, in descending order.
std::string largest(const std::map<std::string, int64_t>& counts) {
  std::vector<std::pair<std::string, int64_t>> sorted(counts.begin(), counts.end());
  std::ranges::stable_sort(sorted, [](const auto& a, const auto& b) { return a.second > b.second; });
  std::string text;
  for (size_t i = 0; i < std::min(sorted.size(), kMaxTiles); ++i)
    text += (i == 0 ? "\"" : ", \"") + sorted[i].first + "\": " + std::to_string(sorted[i].second);
  return "{" + text + "}";
}

}  // namespace

Mismatches::Mismatches(std::string what, int32_t tile_rows, int32_t tile_columns)
    : what_(std::move(what)),
      tile_rows_(tile_rows),
      tile_columns_(tile_columns),
      by_row_(8, 0),
      by_column_(16, 0) {}

void Mismatches::compare(int32_t row, int32_t column, double got, double want, double allowed,
                         std::span<const std::string> parts) {
  ++compared_;
  const double difference = std::abs(got - want);
  if (difference <= allowed) {
    if (allowed > 0) worst_ = std::max(worst_, difference / allowed);
    return;
  }
  if (allowed > 0 && std::isfinite(difference)) worst_ = std::max(worst_, difference / allowed);
  add({row, column, got, want}, parts);
}

void Mismatches::same(int32_t row, int32_t column, float got, float want) {
  ++compared_;
  if (std::memcmp(&got, &want, sizeof got) != 0) add({row, column, got, want}, {});
}

void Mismatches::same(std::span<const float> got, std::span<const float> want, int32_t columns) {
  for (size_t i = 0; i < std::max(got.size(), want.size()); ++i) {
    const auto row = static_cast<int32_t>(i / columns), column = static_cast<int32_t>(i % columns);
    if (i < got.size() && i < want.size())
      same(row, column, got[i], want[i]);
    else
      add({row, column, i < got.size() ? got[i] : NAN, i < want.size() ? want[i] : NAN}, {});
  }
}

void Mismatches::part_is_wrong(const std::string& part, int64_t count) {
  by_part_[part] += count;
}

void Mismatches::add(const Element& element, std::span<const std::string> parts) {
  ++wrong_;
  nans_ += std::isnan(element.got);
  if (first_.size() < kMaxFirst) first_.push_back(element);
  ++by_row_[static_cast<size_t>(element.row) % by_row_.size()];
  ++by_column_[static_cast<size_t>(element.column) % by_column_.size()];
  ++by_tile_[std::to_string(element.row / tile_rows_) + "," + std::to_string(element.column / tile_columns_)];
  for (const std::string& part : parts) ++by_part_[part];
}

std::string Mismatches::json() const {
  std::string first;
  for (const Element& element : first_)
    first += (first.empty() ? "[" : ", [") + std::to_string(element.row) + ", " +
             std::to_string(element.column) + ", " + number(element.got) + ", " + number(element.want) + "]";
  return "{\"mismatch\": {\"what\": \"" + what_ + "\", \"wrong\": " + std::to_string(wrong_) +
         ", \"of\": " + std::to_string(compared_) + ", \"nan\": " + std::to_string(nans_) +
         ", \"worst_over_allowed\": " + number(worst_) + ", \"first\": [" + first +
         "], \"by_row_mod_8\": " + list(by_row_) + ", \"by_column_mod_16\": " + list(by_column_) +
         ", \"tile\": [" + std::to_string(tile_rows_) + ", " + std::to_string(tile_columns_) +
         "], \"by_tile\": " + largest(by_tile_) + ", \"by_part\": " + largest(by_part_) + "}}";
}

bool Mismatches::check() const {
  static int dumps = 0;
  if (wrong_ == 0) return true;
  if (dumps++ < kMaxDumps) {
    std::printf("%s\n", json().c_str());
    std::fflush(stdout);  // the process may be killed before it exits
  }
  return false;
}

}  // namespace apar::test
