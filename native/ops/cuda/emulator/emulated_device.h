#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "ops/cuda/device/device.h"
#include "ops/cuda/emulator/emulate.h"
#include "ops/cuda/emulator/hidden_memory.h"
#include "testing/guarded.h"

namespace apar::cuda {

// Runs kernels on the host (emulate.h). Each allocation ends before a protected page. A graph is a list of
// launches with their arguments.
class EmulatedDevice final : public Device {
 public:
  explicit EmulatedDevice(uint64_t free_bytes = uint64_t{1} << 30, int32_t multiprocessors = 6);

  const DeviceInfo& info() const override { return info_; }
  Stream stream() override { return {this}; }
  void* allocate(size_t bytes, const char* what) override;
  void* allocate_pinned(size_t bytes) override;
  void upload(void* to, const void* pinned, size_t bytes) override;
  void download(void* pinned, const void* from, size_t bytes) override;
  void synchronize() override { ++waits_; }
  std::unique_ptr<Timer> make_timer() override;
  void begin_capture() override { capturing_ = true; }
  std::unique_ptr<Graph> end_capture() override;
  void abandon_capture() noexcept override;

  void enqueue(std::function<void()> work);
  void enqueue_overlapping(emulate::Index grid, uint32_t threads, size_t shared_bytes,
                           std::function<void()> thread);
  int32_t launches() const { return launches_; }                  // of kernels, those of graphs not included
  int32_t overlapping_runs() const { return overlapping_runs_; }  // also in graphs
  int32_t graph_launches() const { return graph_launches_; }
  int32_t captures() const { return captures_; }
  int32_t graphs() const { return graphs_; }  // that exist now
  int32_t waits() const { return waits_; }
  uint64_t allocated_bytes() const { return allocated_bytes_; }
  int32_t allocations() const { return static_cast<int32_t>(memory_.size()); }  // pinned memory included
  // Lets the next `launches` launches succeed and the one after them fail; -1 turns failures off.
  void fail_launch_after(int32_t launches) { launches_to_failure_ = launches; }

 private:
  class RecordedLaunches;

  void* add_memory(size_t bytes);
  std::vector<HiddenMemory::Pages> written_by_kernels() const;

  DeviceInfo info_;
  uint64_t allocated_bytes_ = 0;
  std::vector<std::unique_ptr<Guarded<unsigned char>>> memory_;
  std::vector<size_t> constant_;  // the indices of memory that only uploads write
  bool capturing_ = false;
  std::vector<std::function<void()>> recording_;
  int32_t graphs_ = 0;
  int32_t launches_ = 0;
  int32_t overlapping_runs_ = 0;
  int32_t graph_launches_ = 0;
  int32_t captures_ = 0;
  int32_t waits_ = 0;
  int32_t launches_to_failure_ = -1;  // none
};

}  // namespace apar::cuda
