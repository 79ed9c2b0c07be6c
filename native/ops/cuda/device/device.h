#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "ops/cuda/device/platform_types.h"

namespace apar::cuda {

struct DeviceInfo {
  std::string name;  // "NVIDIA H200"
  int32_t multiprocessors = 0;
  int32_t capability = 0;   // 10 * major + minor
  uint64_t free_bytes = 0;  // when the device was opened
};

// A graph of captured launches. Its device must outlive it, and it must not be destroyed between
// begin_capture() and end_capture().
class Graph {
 public:
  virtual ~Graph() = default;
  virtual void launch() = 0;
};

// Measures the time between two points in a device's stream.
class Timer {
 public:
  virtual ~Timer() = default;
  // Both take effect in stream order.
  virtual void start() = 0;
  virtual void stop() = 0;
  // The seconds between start() and stop() by the device's clock. Waits until the device has reached stop().
  // Both must have been called.
  virtual double seconds() = 0;
};

// Device memory, copies and graphs: everything that the operations need besides kernels. A device has one
// stream, which executes in order. CudaDevice is a GPU; EmulatedDevice runs the kernels on the host for the
// tests. Throws Error{out_of_memory} for an allocation that fails and Error{internal} for any other failure.
class Device {
 public:
  virtual ~Device() = default;

  virtual const DeviceInfo& info() const = 0;
  virtual Stream stream() = 0;

  // Allocates zeroed device memory, aligned to 256 bytes, which is freed with this object.
  virtual void* allocate(size_t bytes, const char* what) = 0;
  // Allocates pinned host memory, for asynchronous copies, which is freed with this object.
  virtual void* allocate_pinned(size_t bytes) = 0;

  // Copies in stream order. The host's side must be pinned memory and stay unchanged until the next
  // synchronize().
  virtual void upload(void* to, const void* pinned, size_t bytes) = 0;
  virtual void download(void* pinned, const void* from, size_t bytes) = 0;
  virtual void synchronize() = 0;

  // The timer must not be used after this object is destroyed.
  virtual std::unique_ptr<Timer> make_timer() = 0;

  // Launches between the two calls are captured instead of run.
  virtual void begin_capture() = 0;
  virtual std::unique_ptr<Graph> end_capture() = 0;
  // Ends the capture instead of end_capture() and discards what was captured, whatever the state of the
  // device.
  virtual void abandon_capture() noexcept = 0;
};

}  // namespace apar::cuda
