#include "test/cuda/emulated_device.h"
#include "test/cuda/open_device.h"

namespace apar::cuda {

std::unique_ptr<Device> open_test_device() {
  return std::make_unique<EmulatedDevice>();
}

}  // namespace apar::cuda
