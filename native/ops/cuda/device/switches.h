#pragma once

namespace apar::cuda {

// Whether an environment variable is "on"; `otherwise` if it is not set. Throws Error{invalid_config} for any
// value but "on" and "off".
bool switched_on(const char* variable, bool otherwise);

}  // namespace apar::cuda
