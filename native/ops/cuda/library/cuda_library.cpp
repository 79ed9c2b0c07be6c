#include "ops/cuda/library/cuda_library.h"

#include <dlfcn.h>

#include <cstdlib>

#include <string>

#include "common/error.h"

namespace apar {
namespace {

constexpr size_t kMessageBytes = 1024;

// The path in APAR_CUDA_LIBRARY, else the library in the folder of the program or addon that contains this
// code.
std::string library_path() {
  if (const char* const named = std::getenv("APAR_CUDA_LIBRARY")) return named;
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&kMessageBytes), &info) == 0 || info.dli_fname == nullptr)
    return "libapar_cuda.so";
  const std::string self = info.dli_fname;
  const size_t slash = self.rfind('/');
  return (slash == std::string::npos ? "." : self.substr(0, slash)) + "/libapar_cuda.so";
}

template <class Function>
Function* symbol(void* library, const char* name) {
  auto* const found = reinterpret_cast<Function*>(dlsym(library, name));
  if (found == nullptr) throw Error(ErrorCode::unavailable, std::string("libapar_cuda.so has no ") + name);
  return found;
}

struct Library {
  AparMakeCudaOps* make;
  AparCudaMemory* memory;
};

Library load() {
  const std::string path = library_path();
  // Never closed: its kernels and thread-local state live as long as the process.
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* const reason = dlerror();
    throw Error(ErrorCode::unavailable, std::string("no CUDA backend: ") + (reason ? reason : path.c_str()));
  }
  const int version = symbol<AparCudaVersion>(library, "apar_cuda_version")();
  if (version != kCudaLibraryVersion)
    throw Error(ErrorCode::unavailable, path + " has version " + std::to_string(version) + ", " +
                                            std::to_string(kCudaLibraryVersion) +
                                            " is needed: build it again");
  return {symbol<AparMakeCudaOps>(library, "apar_make_cuda_ops"),
          symbol<AparCudaMemory>(library, "apar_cuda_memory")};
}

const Library& library() {
  static const Library loaded = load();
  return loaded;
}

// Calls an exported function with buffers for an error code and message, and throws the error that it
// reports.
template <class Call>
auto checked(Call call) {
  constexpr int kNoError = -1;
  int code = kNoError;
  char message[kMessageBytes] = "";
  auto result = call(&code, message);
  if (code != kNoError) throw Error(static_cast<ErrorCode>(code), message);
  return result;
}

}  // namespace

std::unique_ptr<Ops> make_cuda_ops(const OpsConfig& config, std::span<const int32_t> devices) {
  const auto make = library().make;
  return std::unique_ptr<Ops>(checked([&](int* code, char* message) {
    return make(&config, devices.data(), devices.size(), code, message, kMessageBytes);
  }));
}

std::unique_ptr<DeviceMemory> cuda_memory(int32_t device, int32_t ranks) {
  const auto memory = library().memory;
  return std::unique_ptr<DeviceMemory>(
      checked([&](int* code, char* message) { return memory(device, ranks, code, message, kMessageBytes); }));
}

}  // namespace apar
