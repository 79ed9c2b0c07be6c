#include "ops/cuda/device/cuda_device.h"
#include "test/cuda/open_device.h"

namespace apar::cuda {

std::unique_ptr<Device> open_test_device(int32_t index) {
  return open_cuda_device(index);
}

const Nccl& test_nccl() {
  return load_nccl();
}

int32_t num_test_devices() {
  return cuda_device_count();
}

}  // namespace apar::cuda
