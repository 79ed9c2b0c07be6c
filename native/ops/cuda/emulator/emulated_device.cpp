#include "ops/cuda/emulator/emulated_device.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "common/error.h"
#include "ops/cuda/emulator/emulate.h"

namespace apar::cuda {
namespace {

constexpr size_t kAlignment = 16;  // the size of the largest access

}  // namespace

EmulatedDevice::EmulatedDevice(uint64_t free_bytes, int32_t multiprocessors)
    : info_{"emulated", multiprocessors, 90, free_bytes} {}

void* EmulatedDevice::allocate(size_t bytes, const char* what) {
  if (bytes > info_.free_bytes - allocated_bytes_) throw Error(ErrorCode::out_of_memory, what);
  allocated_bytes_ += bytes;
  if (std::string_view(what) == "weights" || std::string_view(what) == "rotary angles")
    constant_.push_back(memory_.size());
  return add_memory(bytes);
}

void* EmulatedDevice::allocate_pinned(size_t bytes) {
  return add_memory(bytes);
}

void* EmulatedDevice::add_memory(size_t bytes) {
  if (capturing_) throw std::logic_error("memory is allocated during a capture");
  const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  memory_.push_back(std::make_unique<Guarded<unsigned char>>(rounded));
  std::memset(memory_.back()->data(), 0, rounded);
  return memory_.back()->data();
}

void EmulatedDevice::upload(void* to, const void* pinned, size_t bytes) {
  if (capturing_) throw std::logic_error("data is copied during a capture");
  std::memcpy(to, pinned, bytes);
}

void EmulatedDevice::download(void* pinned, const void* from, size_t bytes) {
  upload(pinned, from, bytes);
}

class EmulatedDevice::RecordedLaunches final : public Graph {
 public:
  RecordedLaunches(EmulatedDevice& device, std::vector<std::function<void()>> launches)
      : device_(device), launches_(std::move(launches)) {
    ++device_.graphs_;
  }
  ~RecordedLaunches() override { --device_.graphs_; }
  void launch() override {
    ++device_.graph_launches_;
    for (const auto& work : launches_) work();
  }

 private:
  EmulatedDevice& device_;
  std::vector<std::function<void()>> launches_;
};

namespace {

// Enqueued work has run when enqueue() returns, so the host's clock measures the device's time.
class HostTimer final : public Timer {
 public:
  void start() override { begin_ = std::chrono::steady_clock::now(); }
  void stop() override { end_ = std::chrono::steady_clock::now(); }
  double seconds() override { return std::chrono::duration<double>(end_ - begin_).count(); }

 private:
  std::chrono::steady_clock::time_point begin_, end_;
};

}  // namespace

std::unique_ptr<Timer> EmulatedDevice::make_timer() {
  return std::make_unique<HostTimer>();
}

std::unique_ptr<Graph> EmulatedDevice::end_capture() {
  if (!std::exchange(capturing_, false)) throw std::logic_error("no capture is active");
  ++captures_;
  return std::make_unique<RecordedLaunches>(*this, std::exchange(recording_, {}));
}

void EmulatedDevice::abandon_capture() noexcept {
  capturing_ = false;
  recording_.clear();
}

void EmulatedDevice::enqueue(std::function<void()> work) {
  if (launches_to_failure_ >= 0 && launches_to_failure_-- == 0)
    throw Error(ErrorCode::internal, "an injected launch failure");
  if (capturing_) return recording_.push_back(std::move(work));
  ++launches_;
  work();
}

std::vector<HiddenMemory::Pages> EmulatedDevice::written_by_kernels() const {
  std::vector<HiddenMemory::Pages> pages;
  for (size_t i = 0; i < memory_.size(); ++i)
    if (!std::ranges::binary_search(constant_, i))
      pages.push_back({memory_[i]->pages(), memory_[i]->page_bytes()});
  return pages;
}

void EmulatedDevice::enqueue_overlapping(emulate::Index grid, uint32_t threads, size_t shared_bytes,
                                         std::function<void()> thread) {
  enqueue([=, this, thread = std::move(thread)] {
    ++overlapping_runs_;
    HiddenMemory memory(written_by_kernels());
    emulate::run_overlapping(grid, threads, shared_bytes, thread,
                             {[&] { memory.hide(); }, [&] { memory.show(); }});
  });
}

void emulate::enqueue_overlapping(void* stream, Index grid, uint32_t threads, size_t shared_bytes,
                                  std::function<void()> thread) {
  static_cast<EmulatedDevice*>(stream)->enqueue_overlapping(grid, threads, shared_bytes, std::move(thread));
}

void emulate::enqueue(void* stream, std::function<void()> work) {
  static_cast<EmulatedDevice*>(stream)->enqueue(std::move(work));
}

}  // namespace apar::cuda
