#include "grammar/ffi.h"

#include <dlfcn.h>

#include <mutex>

#include "common/error.h"

namespace apar::ffi {
namespace {

struct Api {
  int (*release)(void* object) = nullptr;
  int (*get_global)(const ByteArray* name, void** function) = nullptr;
  int (*call)(void* function, const Any* arguments, int32_t count, Any* result) = nullptr;
  void (*take_error)(void** error) = nullptr;
  int (*make_string)(const ByteArray* content, Any* result) = nullptr;
  int (*make_bytes)(const ByteArray* content, Any* result) = nullptr;
  int (*type_index)(const ByteArray* key, int32_t* index) = nullptr;
  const TypeInfo* (*type_info)(int32_t index) = nullptr;
};

Api api;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables): the process has one such library
std::once_flag opened;

void* open_library(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) throw Error(ErrorCode::unavailable, dlerror());
  return library;
}

template <typename F>
void find(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(dlsym(library, name));
  if (function == nullptr) throw Error(ErrorCode::unavailable, std::string("there is no ") + name);
}

ByteArray array_of(std::string_view text) {
  return {text.data(), text.size()};
}

[[noreturn]] void throw_raised() {
  void* raised = nullptr;
  api.take_error(&raised);
  const ByteArray& message = static_cast<ErrorObject*>(raised)->message;
  const std::string text(message.data, message.size);
  api.release(raised);
  throw Error(ErrorCode::invalid_request, text);
}

Value make(int (*maker)(const ByteArray*, Any*), std::string_view content) {
  const ByteArray array = array_of(content);
  Any result;
  if (maker(&array, &result) != 0) throw_raised();
  return Value(result);
}

}  // namespace

void open_libraries(const std::string& ffi_library, const std::string& library) {
  std::call_once(opened, [&] {
    void* const ffi = open_library(ffi_library);
    find(ffi, "TVMFFIObjectDecRef", api.release);
    find(ffi, "TVMFFIFunctionGetGlobal", api.get_global);
    find(ffi, "TVMFFIFunctionCall", api.call);
    find(ffi, "TVMFFIErrorMoveFromRaised", api.take_error);
    find(ffi, "TVMFFIStringFromByteArray", api.make_string);
    find(ffi, "TVMFFIBytesFromByteArray", api.make_bytes);
    find(ffi, "TVMFFITypeKeyToIndex", api.type_index);
    find(ffi, "TVMFFIGetTypeInfo", api.type_info);
    open_library(library);
  });
}

void Value::release() {
  if (any_.type >= kFirstObject) api.release(any_.pointer);
  any_ = {};
}

std::string_view Value::as_text() const {
  if (any_.type == kSmallString || any_.type == kSmallBytes) return {any_.small, any_.small_length};
  if (any_.type != kString && any_.type != kBytes) return {};
  const ByteArray& text = static_cast<const StringObject*>(any_.pointer)->text;
  return {text.data, text.size};
}

Function global_function(const std::string& name) {
  const ByteArray key = array_of(name);
  void* function = nullptr;
  if (api.get_global(&key, &function) != 0 || function == nullptr)
    throw Error(ErrorCode::unavailable, "the grammar engine has no function " + name);
  return function;
}

Function method(const std::string& type, const std::string& name) {
  const ByteArray key = array_of(type);
  int32_t index = 0;
  if (api.type_index(&key, &index) == 0) {
    const TypeInfo& info = *api.type_info(index);
    for (const MethodInfo& each : std::span(info.methods, static_cast<size_t>(info.num_methods)))
      if (std::string_view(each.name.data, each.name.size) == name) return each.method.pointer;
  }
  throw Error(ErrorCode::unavailable, "the grammar engine has no method " + type + "." + name);
}

Value call(Function function, std::span<const Any> arguments) {
  Any result;
  if (api.call(function, arguments.data(), static_cast<int32_t>(arguments.size()), &result) != 0)
    throw_raised();
  return Value(result);
}

Value string(std::string_view content) {
  return make(api.make_string, content);
}
Value bytes(std::string_view content) {
  return make(api.make_bytes, content);
}

}  // namespace apar::ffi
