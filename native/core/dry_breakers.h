#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/token_text.h"

namespace apar {

// DryParams::breakers: the tokens whose text has one of `strings` in it, and those without a text. A string
// that only several tokens make together breaks nothing. Takes milliseconds for a large vocabulary.
std::shared_ptr<const std::vector<bool>> dry_breakers(const TokenText& text,
                                                      const std::vector<std::string>& strings);

}  // namespace apar
