#include "engine/device.h"

#include "common/error.h"
#include "ops/cpu/cpu_ops.h"
#include "ops/cuda/library/cuda_library.h"

namespace apar {
namespace {

constexpr int32_t kMaxThreads = 256;

}  // namespace

DeviceChoice parse_device(const std::string& name) {
  if (name == "auto") return DeviceChoice::automatic;
  if (name == "cpu") return DeviceChoice::cpu;
  if (name == "cuda") return DeviceChoice::cuda;
  throw Error(ErrorCode::invalid_config, "unknown device " + name);
}

MakeOps make_ops_on(DeviceChoice choice, int32_t threads, std::shared_ptr<std::string> fallback,
                    std::vector<int32_t> devices) {
  if (!devices.empty() && choice != DeviceChoice::cuda)
    throw Error(ErrorCode::invalid_config, "a list of devices needs the device cuda");
  if (threads < 1 || threads > kMaxThreads)
    throw Error(ErrorCode::invalid_config,
                "threads must be in [1, " + std::to_string(kMaxThreads) + "], is " + std::to_string(threads));
  return [=](const OpsConfig& config) -> std::unique_ptr<Ops> {
    if (choice != DeviceChoice::cpu) {
      try {
        return make_cuda_ops(config, devices);
      } catch (const Error& error) {
        if (choice == DeviceChoice::cuda || error.code() != ErrorCode::unavailable) throw;
        *fallback = error.what();
      }
    }
    return std::make_unique<cpu::CpuOps>(config, cpu::select_isa(), threads);
  };
}

}  // namespace apar
