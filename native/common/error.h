#pragma once

#include <stdexcept>
#include <string>

namespace apar {

// Every error that leaves the engine has one of these codes; the addon turns it into EngineError{code}.
enum class ErrorCode {
  invalid_config,     // the configuration contradicts itself or the checkpoint
  invalid_weights,    // a tensor is missing, misshapen, out of its file's bounds, or of an unknown dtype
  invalid_request,    // a request outside the engine's limits
  duplicate_request,  // the request id is in use
  queue_full,         // too many requests are waiting or running
  request_too_large,  // the request can never fit the pool or the context
  out_of_memory,      // an allocation failed at start
  unavailable,        // the device is missing, or the engine has failed
  closed,             // the engine was closed
  internal,           // a bug
};

const char* to_string(ErrorCode code);

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace apar
