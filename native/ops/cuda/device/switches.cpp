#include "ops/cuda/device/switches.h"

#include <cstdlib>
#include <string>

#include "common/error.h"

namespace apar::cuda {

bool switched_on(const char* variable, bool otherwise) {
  const char* const found = std::getenv(variable);
  if (found == nullptr) return otherwise;
  const std::string value = found;
  if (value != "on" && value != "off")
    throw Error(ErrorCode::invalid_config, std::string(variable) + " must be on or off, not " + value);
  return value == "on";
}

}  // namespace apar::cuda
