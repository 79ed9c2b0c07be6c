#include "ops/cuda/cuda_device.h"
#include "test/cuda/open_device.h"

namespace apar::cuda {

std::unique_ptr<Device> open_test_device() {
  return open_cuda_device();
}

}  // namespace apar::cuda
