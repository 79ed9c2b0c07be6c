#include "core/dry_breakers.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

namespace apar {

std::shared_ptr<const std::vector<bool>> dry_breakers(const TokenText& text,
                                                      const std::vector<std::string>& strings) {
  std::array<bool, 256> begins{};  // a string begins with this byte: most tokens have no such byte
  for (const std::string& string : strings)
    if (!string.empty()) begins[static_cast<uint8_t>(string[0])] = true;
  auto breakers = std::make_shared<std::vector<bool>>();
  for (size_t token = 0; token + 1 < text.offsets.size(); ++token) {
    const auto bytes = text.in_calls(static_cast<int32_t>(token));
    const auto has = [&](const std::string& string) {
      return !string.empty() &&
             std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()).find(string) !=
                 std::string_view::npos;
    };
    breakers->push_back(bytes.empty() || (std::ranges::any_of(bytes, [&](uint8_t b) { return begins[b]; }) &&
                                          std::ranges::any_of(strings, has)));
  }
  return breakers;
}

}  // namespace apar
