#include "ops/cuda/emulator/emulated_device.h"
#include "ops/cuda/emulator/emulated_nccl.h"
#include "test/cuda/open_device.h"

namespace apar::cuda {

std::unique_ptr<Device> open_test_device(int32_t /*index*/) {
  return std::make_unique<EmulatedDevice>();
}

const Nccl& test_nccl() {
  return emulated_nccl();
}

int32_t num_test_devices() {
  return 2;
}

}  // namespace apar::cuda
