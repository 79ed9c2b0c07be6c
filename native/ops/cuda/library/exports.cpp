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

constexpr double kReserve = 0.05;  // of the free memory, for allocations that are not counted

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

APAR_EXPORT int apar_cuda_blocks(const apar::OpsConfig* config, uint64_t other_bytes, int32_t index,
                                 int* code, char* message, size_t message_bytes) {
  return guarded(code, message, message_bytes, [&]() -> int {
    using namespace apar::cuda;
    const auto device = open_cuda_device(index);
    const DeviceInfo& info = device->info();
    const GemmScratch scratch = max_gemm_scratch(
        config->max_rows, {info.multiprocessors, info.capability, gemm_backend_from_environment()});
    return affordable_blocks(*config, info.free_bytes, other_bytes + bytes_of(scratch), kReserve);
  });
}
