// The exports of libapar_cuda.so (ops/cuda/library/cuda_library.h). Errors while opening are returned as
// codes. Later errors of Ops cross the boundary as exceptions, because one compiler builds both sides.
#include <cstdio>
#include <span>

#include "common/error.h"
#include "ops/cuda/cuda_ops.h"
#include "ops/cuda/cuda_rank.h"
#include "ops/cuda/device/cuda_device.h"
#include "ops/cuda/library/cuda_library.h"
#include "ops/cuda/memory_plan.h"
#include "ops/sharded/sharded_ops.h"

#define APAR_EXPORT extern "C" __attribute__((visibility("default")))

APAR_EXPORT int apar_cuda_version() {
  return apar::kCudaLibraryVersion;
}

namespace {

// Runs `body`. Converts an exception into a code and a message, and returns an empty result then.
template <class Body>
auto guarded(int* code, char* message, size_t message_bytes, Body body) -> decltype(body()) {
  const auto fail = [&](apar::ErrorCode error, const char* what) {
    *code = static_cast<int>(error);
    std::snprintf(message, message_bytes, "%s", what);
  };
  try {
    return body();
  } catch (const apar::Error& error) {
    fail(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    fail(apar::ErrorCode::out_of_memory, "out of memory");
  } catch (const std::exception& error) {
    fail(apar::ErrorCode::internal, error.what());
  }
  return {};
}

std::unique_ptr<apar::Ops> open_together(const apar::OpsConfig& config, std::span<const int32_t> devices) {
  // Opening the devices first gives a clearer error than NCCL's.
  for (const int32_t device : devices) apar::cuda::open_cuda_device(device);
  const auto group = std::make_shared<apar::cuda::NcclGroup>(apar::cuda::load_nccl(), devices);
  return std::make_unique<apar::ShardedOps>(
      config, group->ranks(), [&](const apar::OpsConfig& part, int32_t rank) {
        return apar::cuda::make_cuda_rank(part, rank, apar::cuda::open_cuda_device(devices[rank]), group);
      });
}

}  // namespace

APAR_EXPORT apar::Ops* apar_make_cuda_ops(const apar::OpsConfig* config, const int32_t* devices,
                                          size_t num_devices, int* code, char* message,
                                          size_t message_bytes) {
  return guarded(code, message, message_bytes, [&]() -> apar::Ops* {
    if (num_devices > 0) return open_together(*config, {devices, num_devices}).release();
    return new apar::cuda::CudaOps(*config, apar::cuda::open_cuda_device());
  });
}

APAR_EXPORT apar::DeviceMemory* apar_cuda_memory(int32_t index, int32_t ranks, int* code, char* message,
                                                 size_t message_bytes) {
  return guarded(code, message, message_bytes, [&]() -> apar::DeviceMemory* {
    return new apar::cuda::CudaMemory(apar::cuda::open_cuda_device(index)->info(), ranks);
  });
}
