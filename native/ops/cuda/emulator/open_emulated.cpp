// device/cuda_device.h on emulated devices, for the library that test/CMakeLists.txt makes of them.
#include "ops/cuda/device/cuda_device.h"
#include "ops/cuda/emulator/emulated_device.h"

namespace apar::cuda {
namespace {

constexpr uint64_t kFreeBytes = uint64_t{16} << 30;

}  // namespace

int32_t cuda_device_count() {
  return 1;
}

std::unique_ptr<Device> open_cuda_device(int32_t /*index*/) {
  return std::make_unique<EmulatedDevice>(kFreeBytes);
}

}  // namespace apar::cuda
