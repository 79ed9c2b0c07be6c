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

// Recorded launches of a device, which outlives them. Not destroyed between begin_capture() and
// end_capture().
class Graph {
 public:
  virtual ~Graph() = default;
  virtual void launch() = 0;
};

// Two moments of a device's stream.
class Timer {
 public:
  virtual ~Timer() = default;
  // In stream order.
  virtual void start() = 0;
  virtual void stop() = 0;
  // Between them, by the device's clock; waits for the second. start() and stop() have been called.
  virtual double seconds() = 0;
};

// Device memory, copies and graphs: what the operations need beside their kernels. One stream; everything on
// it happens in order. CudaDevice is the real one, EmulatedDevice runs the kernels on the host for the tests.
// Errors are Error{out_of_memory} for an allocation that fails, Error{internal} for anything else.
class Device {
 public:
  virtual ~Device() = default;

  virtual const DeviceInfo& info() const = 0;
  virtual Stream stream() = 0;

  // Zeroed memory of the device, aligned to 256 bytes, freed with this object.
  virtual void* allocate(size_t bytes, const char* what) = 0;
  // Memory of the host that the device can copy from and to without waiting, freed with this object.
  virtual void* allocate_pinned(size_t bytes) = 0;

  // In stream order; `from` or `to` on the host is pinned and unchanged until the next synchronize().
  virtual void upload(void* to, const void* pinned, size_t bytes) = 0;
  virtual void download(void* pinned, const void* from, size_t bytes) = 0;
  virtual void synchronize() = 0;

  // Not used after this object.
  virtual std::unique_ptr<Timer> make_timer() = 0;

  // Between the two, launches are recorded instead of run.
  virtual void begin_capture() = 0;
  virtual std::unique_ptr<Graph> end_capture() = 0;
  // In place of end_capture(): what was recorded is dropped. Recording has ended, whatever the device says.
  virtual void abandon_capture() noexcept = 0;
};

}  // namespace apar::cuda
