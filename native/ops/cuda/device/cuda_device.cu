// Device on the CUDA runtime. The runtime is linked statically, so that the library also loads without a
// driver.
#include <vector>

#include "common/error.h"
#include "ops/cuda/device/cuda_device.h"
#include "ops/cuda/device/platform.h"

namespace apar::cuda {
namespace {

__global__ void probe() {}

class CudaGraph final : public Graph {
 public:
  CudaGraph(cudaGraph_t recorded, cudaStream_t stream) : stream_(stream) {
    check(cudaGraphInstantiate(&executable_, recorded, 0), "cudaGraphInstantiate");
  }
  // Waits, because a launch of the graph may still be running.
  ~CudaGraph() override {
    cudaStreamSynchronize(stream_);
    cudaGraphExecDestroy(executable_);
  }
  void launch() override { check(cudaGraphLaunch(executable_, stream_), "cudaGraphLaunch"); }

 private:
  cudaGraphExec_t executable_ = nullptr;
  cudaStream_t stream_;
};

class CudaTimer final : public Timer {
 public:
  explicit CudaTimer(cudaStream_t stream) : stream_(stream) {
    check(cudaEventCreate(&begin_), "cudaEventCreate");
    check(cudaEventCreate(&end_), "cudaEventCreate");
  }
  ~CudaTimer() override {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }
  void start() override { check(cudaEventRecord(begin_, stream_), "cudaEventRecord"); }
  void stop() override { check(cudaEventRecord(end_, stream_), "cudaEventRecord"); }
  double seconds() override {
    float milliseconds = 0;
    check(cudaEventSynchronize(end_), "the device failed");
    check(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime");
    return milliseconds / 1e3;
  }

 private:
  cudaStream_t stream_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

class CudaDevice final : public Device {
 public:
  explicit CudaDevice(int32_t index) {
    check(cudaSetDevice(index), "cudaSetDevice");
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
    info_.name = properties.name;
    info_.multiprocessors = properties.multiProcessorCount;
    info_.capability = 10 * properties.major + properties.minor;
    if (info_.capability < 80)
      throw Error(ErrorCode::unavailable, info_.name + " has compute capability " +
                                              std::to_string(properties.major) + "." +
                                              std::to_string(properties.minor) + ", 8.0 is needed");
    check_code();
    size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    info_.free_bytes = free;
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
  }

  ~CudaDevice() override {
    cudaStreamSynchronize(stream_);
    for (void* memory : memory_) cudaFree(memory);
    for (void* memory : pinned_) cudaFreeHost(memory);
    cudaStreamDestroy(stream_);
  }

  const DeviceInfo& info() const override { return info_; }
  Stream stream() override { return {stream_}; }

  void* allocate(size_t bytes, const char* what) override {
    void* memory = nullptr;
    const std::string message = std::string(what) + " (" + std::to_string(bytes) + " bytes)";
    const cudaError_t status = cudaMalloc(&memory, bytes);
    if (status != cudaSuccess) cudaGetLastError();  // clears the error, else the next launch would report it
    check(status, message.c_str());
    memory_.push_back(memory);
    check(cudaMemsetAsync(memory, 0, bytes, stream_), message.c_str());
    return memory;
  }

  void* allocate_pinned(size_t bytes) override {
    void* memory = nullptr;
    check(cudaMallocHost(&memory, bytes), "pinned memory");
    pinned_.push_back(memory);
    return memory;
  }

  void upload(void* to, const void* pinned, size_t bytes) override {
    check(cudaMemcpyAsync(to, pinned, bytes, cudaMemcpyHostToDevice, stream_), "upload");
  }
  void download(void* pinned, const void* from, size_t bytes) override {
    check(cudaMemcpyAsync(pinned, from, bytes, cudaMemcpyDeviceToHost, stream_), "download");
  }
  void synchronize() override { check(cudaStreamSynchronize(stream_), "the device failed"); }

  std::unique_ptr<Timer> make_timer() override { return std::make_unique<CudaTimer>(stream_); }

  void begin_capture() override {
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  }
  std::unique_ptr<Graph> end_capture() override {
    cudaGraph_t recorded = nullptr;
    check(cudaStreamEndCapture(stream_, &recorded), "cudaStreamEndCapture");
    const std::unique_ptr<CUgraph_st, decltype(&cudaGraphDestroy)> owner(recorded, &cudaGraphDestroy);
    return std::make_unique<CudaGraph>(recorded, stream_);
  }
  void abandon_capture() noexcept override {
    cudaGraph_t recorded = nullptr;  // stays null when the failure has invalidated the capture
    cudaStreamEndCapture(stream_, &recorded);
    if (recorded != nullptr) cudaGraphDestroy(recorded);
    cudaGetLastError();  // clears the error, else the next launch would report it
  }

 private:
  // Throws unless this build has machine code for the device, or PTX that its driver can compile.
  void check_code() const {
    probe<<<1, 1>>>();
    const std::string architecture = std::to_string(info_.capability);
    check(cudaGetLastError(), ("this build has no code for " + info_.name + ", sm_" + architecture +
                               " (cmake -DAPAR_CUDA_ARCHITECTURES=" + architecture + ")")
                                  .c_str());
  }

  DeviceInfo info_;
  cudaStream_t stream_ = nullptr;
  std::vector<void*> memory_, pinned_;
};

}  // namespace

int32_t cuda_device_count() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0)
    throw Error(ErrorCode::unavailable,
                std::string("no CUDA device") +
                    (status == cudaSuccess ? "" : std::string(": ") + cudaGetErrorString(status)));
  return count;
}

std::unique_ptr<Device> open_cuda_device(int32_t index) {
  const int32_t count = cuda_device_count();
  if (index < 0 || index >= count)
    throw Error(ErrorCode::unavailable, "there is no CUDA device " + std::to_string(index) +
                                            ": the machine has " + std::to_string(count) +
                                            ", counted from 0");
  return std::make_unique<CudaDevice>(index);
}

}  // namespace apar::cuda
