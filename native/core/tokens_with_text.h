#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/token_text.h"

namespace apar {

// Of a model's tokens, those whose text has one of some strings in it, and those without a text: breakers of
// DRY, and what no penalty lowers. A string that only several tokens make together is in none of them.
class TokensWithText {
 public:
  // `text` must outlive it.
  explicit TokensWithText(const TokenText& text) : text_(text) {}

  // The first time for a list of strings takes milliseconds for a large vocabulary; requests give the same
  // few lists, which are kept. Any thread may call it.
  std::shared_ptr<const std::vector<bool>> of(const std::vector<std::string>& strings);

 private:
  std::vector<bool> find(const std::vector<std::string>& strings) const;

  const TokenText& text_;
  std::mutex mutex_;
  std::map<std::vector<std::string>, std::shared_ptr<const std::vector<bool>>> known_;
};

}  // namespace apar
