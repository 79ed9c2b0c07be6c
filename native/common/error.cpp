#include "common/error.h"

namespace apar {

const char* to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_config:
      return "invalid_config";
    case ErrorCode::invalid_weights:
      return "invalid_weights";
    case ErrorCode::invalid_request:
      return "invalid_request";
    case ErrorCode::duplicate_request:
      return "duplicate_request";
    case ErrorCode::queue_full:
      return "queue_full";
    case ErrorCode::request_too_large:
      return "request_too_large";
    case ErrorCode::out_of_memory:
      return "out_of_memory";
    case ErrorCode::unavailable:
      return "unavailable";
    case ErrorCode::closed:
      return "closed";
    case ErrorCode::internal:
      break;
  }
  return "internal";
}

}  // namespace apar
