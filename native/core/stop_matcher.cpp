#include "core/stop_matcher.h"

#include <algorithm>

namespace apar {
namespace {

constexpr uint8_t kReplacement[] = {0xef, 0xbf, 0xbd};  // U+FFFD
constexpr uint8_t kFirst = 0x80, kLast = 0xbf;          // of the bytes that continue a character

}  // namespace

StopStrings::StopStrings(const std::vector<std::string>& strings) {
  for (const std::string& bytes : strings) {
    std::vector<uint32_t> border(bytes.size() + 1, 0);
    uint32_t length = 0;
    for (size_t i = 1; i < bytes.size(); ++i) {
      while (length > 0 && bytes[i] != bytes[length]) length = border[length];
      if (bytes[i] == bytes[length]) ++length;
      border[i + 1] = length;
    }
    strings_.push_back({bytes, std::move(border)});
  }
}

uint32_t StopStrings::advance(size_t i, uint32_t matched, uint8_t byte) const {
  const auto& [bytes, border] = strings_[i];
  if (matched == bytes.size()) matched = border[matched];
  while (matched > 0 && static_cast<uint8_t>(bytes[matched]) != byte) matched = border[matched];
  return static_cast<uint8_t>(bytes[matched]) == byte ? matched + 1 : 0;
}

void StopMatcher::begin(const StopStrings& stops, bool drop_space) {
  matched_.assign(stops.size(), 0);
  drop_space_ = drop_space;
}

bool StopMatcher::push(const StopStrings& stops, std::span<const uint8_t> bytes) {
  if (stops.empty() || bytes.empty()) return false;
  if (drop_space_ && bytes.front() == ' ') bytes = bytes.subspan(1);
  drop_space_ = false;
  bool complete = false;
  for (const uint8_t byte : bytes) complete = decode(stops, byte) || complete;
  return complete;
}

bool StopMatcher::flush(const StopStrings& stops) {
  return !stops.empty() && needed_ > 0 && replace(stops);
}

void StopMatcher::restart(bool skip_line_feeds) {
  std::fill(matched_.begin(), matched_.end(), 0);
  skip_line_feeds_ = skip_line_feeds;
}

// The UTF-8 decoder of the WHATWG Encoding Standard: a character is matched when its last byte has arrived.
bool StopMatcher::decode(const StopStrings& stops, uint8_t byte) {
  if (needed_ > 0) {
    if (byte < lower_ || byte > upper_) {
      const bool complete = replace(stops);
      return decode(stops, byte) || complete;
    }
    lower_ = kFirst;
    upper_ = kLast;
    pending_[pending_size_++] = byte;
    if (--needed_ > 0) return false;
    bool complete = false;
    for (uint8_t i = 0; i < pending_size_; ++i) complete = match(stops, pending_[i]) || complete;
    pending_size_ = 0;
    return complete;
  }
  if (byte < 0x80) return match(stops, byte);
  if (byte < 0xc2 || byte > 0xf4) return replace(stops);
  needed_ = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
  // No overlong forms, no surrogates, nothing above U+10FFFF.
  lower_ = byte == 0xe0 ? 0xa0 : byte == 0xf0 ? 0x90 : kFirst;
  upper_ = byte == 0xed ? 0x9f : byte == 0xf4 ? 0x8f : kLast;
  pending_[0] = byte;
  pending_size_ = 1;
  return false;
}

bool StopMatcher::replace(const StopStrings& stops) {
  needed_ = pending_size_ = 0;
  bool complete = false;
  for (const uint8_t byte : kReplacement) complete = match(stops, byte) || complete;
  return complete;
}

bool StopMatcher::match(const StopStrings& stops, uint8_t byte) {
  if (skip_line_feeds_ && byte == '\n') return false;
  skip_line_feeds_ = false;
  bool complete = false;
  for (size_t i = 0; i < matched_.size(); ++i) {
    matched_[i] = stops.advance(i, matched_[i], byte);
    complete = complete || stops.complete(i, matched_[i]);
  }
  return complete;
}

}  // namespace apar
