#include "core/tokens_with_text.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

namespace apar {
namespace {

constexpr size_t kMaxKnown = 16;

}  // namespace

std::shared_ptr<const std::vector<bool>> TokensWithText::of(const std::vector<std::string>& strings) {
  const std::lock_guard lock(mutex_);
  if (const auto found = known_.find(strings); found != known_.end()) return found->second;
  if (known_.size() >= kMaxKnown) known_.clear();
  return known_.emplace(strings, std::make_shared<const std::vector<bool>>(find(strings))).first->second;
}

std::vector<bool> TokensWithText::find(const std::vector<std::string>& strings) const {
  std::array<bool, 256> begins{};  // a string begins with this byte: most tokens have no such byte
  for (const std::string& string : strings)
    if (!string.empty()) begins[static_cast<uint8_t>(string[0])] = true;
  std::vector<bool> found;
  for (size_t token = 0; token + 1 < text_.offsets.size(); ++token) {
    const auto bytes = text_.in_calls(static_cast<int32_t>(token));
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    const auto is_in = [text](const std::string& string) {
      return !string.empty() && text.find(string) != text.npos;
    };
    found.push_back(text.empty() || (std::ranges::any_of(bytes, [&](uint8_t b) { return begins[b]; }) &&
                                     std::ranges::any_of(strings, is_in)));
  }
  return found;
}

}  // namespace apar
