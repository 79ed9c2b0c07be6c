#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "grammar/ffi_abi.h"

namespace apar::ffi {

// A result of a call, with its reference.
class Value {
 public:
  Value() = default;
  explicit Value(const Any& owned) : any_(owned) {}
  ~Value() { release(); }
  Value(Value&& from) noexcept : any_(std::exchange(from.any_, {})) {}
  Value& operator=(Value&& from) noexcept {
    std::swap(any_, from.any_);
    return *this;
  }

  // As an argument of calls, while this value lives.
  const Any& view() const { return any_; }
  bool as_bool() const { return any_.integer != 0; }
  // Of a string or bytes; while this value lives.
  std::string_view as_text() const;

 private:
  void release();
  Any any_;
};

// Arguments; a tensor must outlive the call.
inline Any none() {
  return {};
}
inline Any integer(int64_t value) {
  Any any;
  any.type = kInt;
  any.integer = value;
  return any;
}
inline Any boolean(bool value) {
  Any any = integer(value ? 1 : 0);
  any.type = kBool;
  return any;
}
inline Any tensor(Tensor& tensor) {
  Any any;
  any.type = kTensor;
  any.pointer = &tensor;
  return any;
}

// Opens the libraries, once for the process. Throws Error{unavailable} when they are not there.
void open_libraries(const std::string& ffi_library, const std::string& library);

// After open_libraries(). Functions live as long as the process. Throw Error{unavailable} for unknown names.
using Function = void*;
Function global_function(const std::string& name);
Function method(const std::string& type, const std::string& name);

// Throws Error{invalid_request} with the message of what the function throws.
Value call(Function function, std::span<const Any> arguments);
// Copies of the content, which is UTF-8 for a string.
Value string(std::string_view content);
Value bytes(std::string_view content);

}  // namespace apar::ffi
