// The exports of libapar_cuda.so (ops/cuda_library.h). Errors while opening are told by code; what Ops throws
// later passes as an exception, both sides being built by one compiler.
#include <cstdio>

#include "core/error.h"
#include "ops/cuda/cuda_device.h"
#include "ops/cuda/cuda_ops.h"
#include "ops/cuda_library.h"

#define APAR_EXPORT extern "C" __attribute__((visibility("default")))

APAR_EXPORT int apar_cuda_version() {
  return apar::kCudaLibraryVersion;
}

APAR_EXPORT apar::Ops* apar_make_cuda_ops(const apar::OpsConfig* config, int* code, char* message,
                                          size_t message_bytes) {
  const auto fail = [&](apar::ErrorCode error, const char* what) {
    *code = static_cast<int>(error);
    std::snprintf(message, message_bytes, "%s", what);
    return nullptr;
  };
  try {
    return new apar::cuda::CudaOps(*config, apar::cuda::open_cuda_device());
  } catch (const apar::Error& error) {
    return fail(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return fail(apar::ErrorCode::out_of_memory, "out of memory");
  } catch (const std::exception& error) {
    return fail(apar::ErrorCode::internal, error.what());
  }
}
