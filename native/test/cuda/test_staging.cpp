// Streaming to a device: no buffer is overwritten while it is copied, for any sizes.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>
#include <vector>

#include "common/error.h"
#include "ops/cuda/device/staging.h"

using namespace apar;
using namespace apar::cuda;

namespace {

// Copies as late as a device may: in synchronize().
class LazyDevice final : public Device {
 public:
  const DeviceInfo& info() const override { return info_; }
  Stream stream() override { return {}; }
  void* allocate(size_t bytes, const char*) override { return memory_.emplace_back(bytes).data(); }
  void* allocate_pinned(size_t bytes) override { return allocate(bytes, "pinned"); }
  void upload(void* to, const void* pinned, size_t bytes) override {
    copies_.emplace_back([=] { std::memcpy(to, pinned, bytes); });
    max_in_flight_ = std::max(max_in_flight_, copies_.size());
  }
  void download(void* pinned, const void* from, size_t bytes) override { upload(pinned, from, bytes); }
  void synchronize() override {
    for (const auto& copy : copies_) copy();
    copies_.clear();
  }
  std::unique_ptr<Timer> make_timer() override { return nullptr; }
  void begin_capture() override {}
  std::unique_ptr<Graph> end_capture() override { return nullptr; }
  void abandon_capture() noexcept override {}

  size_t max_in_flight() const { return max_in_flight_; }
  bool busy() const { return !copies_.empty(); }

 private:
  DeviceInfo info_;
  std::vector<std::vector<unsigned char>> memory_;
  std::vector<std::function<void()>> copies_;
  size_t max_in_flight_ = 0;
};

}  // namespace

TEST_CASE("streamed data arrives complete and in order") {
  for (const size_t unit : {1, 3, 16, 40}) {
    for (const size_t units : {0, 1, 2, 5, 13, 100}) {
      CAPTURE(unit);
      CAPTURE(units);
      LazyDevice device;
      Staging staging(device, 40);
      std::vector<unsigned char> source(unit * units), to(unit * units + 1, 0xee);
      std::iota(source.begin(), source.end(), static_cast<unsigned char>(1));
      bool filled_while_copying = false;
      const auto fill = [&](size_t first, size_t count, std::byte* piece) {
        filled_while_copying |= device.busy();
        std::memcpy(piece, source.data() + first * unit, count * unit);
      };
      const size_t half = units / 2;
      staging.stream(to.data(), half, unit, fill);
      // The second stream begins while the last copy of the first is in flight.
      staging.stream(to.data() + half * unit, units - half, unit,
                     [&](size_t first, size_t count, std::byte* piece) { fill(first + half, count, piece); });
      device.synchronize();
      CHECK(std::equal(source.begin(), source.end(), to.begin()));
      CHECK(to.back() == 0xee);
      CHECK(device.max_in_flight() <= 1);
      if (unit * units > 80) CHECK(filled_while_copying);
    }
  }
}

TEST_CASE("fetched data arrives complete and in order") {
  for (const size_t bytes : {0, 1, 40, 41, 80, 199}) {
    CAPTURE(bytes);
    LazyDevice device;
    Staging staging(device, 40);
    std::vector<unsigned char> source(bytes), to(bytes + 1, 0xee);
    std::iota(source.begin(), source.end(), static_cast<unsigned char>(1));
    staging.fetch(to.data(), source.data(), bytes);
    CHECK(std::equal(source.begin(), source.end(), to.begin()));
    CHECK(to.back() == 0xee);
    CHECK(!device.busy());
  }
}

TEST_CASE("a unit that is larger than a buffer is refused") {
  LazyDevice device;
  Staging staging(device, 40);
  CHECK_THROWS_AS(staging.stream(nullptr, 1, 41, [](size_t, size_t, std::byte*) {}), Error);
}
