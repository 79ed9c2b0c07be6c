// Device selection on machines with and without CUDA, and the errors for a missing device.
#include <doctest/doctest.h>

#include "common/error.h"
#include "engine/device.h"
#include "engine/memory_plan.h"
#include "ops/cuda/library/cuda_library.h"
#include "test/random_model.h"

using namespace apar;
using namespace apar::test;

namespace {

// The reason why CUDA cannot be used on this machine, "" if it can.
std::string cuda_missing() {
  try {
    make_cuda_ops({.num_layers = 1,
                   .num_heads = 1,
                   .num_kv_heads = 1,
                   .head_dim = 2,
                   .num_blocks = 1,
                   .max_rows = 1,
                   .max_context = 16});
    return "";
  } catch (const Error& error) {
    REQUIRE(error.code() == ErrorCode::unavailable);
    REQUIRE(std::string(error.what()).find("CUDA") != std::string::npos);
    return error.what();
  }
}

std::string device_of(const RandomModel& random, DeviceChoice choice, std::string& fallback) {
  const auto reason = std::make_shared<std::string>();
  const auto model =
      open_llama(random.config, random.weights, WeightFormat::f32, 4, 4, make_ops_on(choice, 1, reason));
  fallback = *reason;
  return model->device();
}

}  // namespace

TEST_CASE("auto uses CUDA if available, else the CPU, and reports the reason") {
  const RandomModel random = make_random_model();
  const std::string missing = cuda_missing();
  std::string fallback;
  CHECK(device_of(random, DeviceChoice::automatic, fallback).rfind(missing.empty() ? "cuda" : "cpu", 0) == 0);
  CHECK(fallback == missing);
  CHECK(device_of(random, DeviceChoice::cpu, fallback).rfind("cpu", 0) == 0);
  CHECK(fallback.empty());
}

TEST_CASE("device cuda never falls back to the CPU") {
  const RandomModel random = make_random_model();
  std::string fallback;
  if (cuda_missing().empty())
    CHECK(device_of(random, DeviceChoice::cuda, fallback).rfind("cuda", 0) == 0);
  else
    CHECK_THROWS_AS(device_of(random, DeviceChoice::cuda, fallback), Error);
}

TEST_CASE("invalid lists of devices are refused with an error code") {
  const auto code_of = [](const auto& action) {
    try {
      action();
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::closed;  // means that nothing was thrown
  };
  const RandomModel random = make_random_model();
  const auto open = [&](DeviceChoice choice, std::vector<int32_t> devices) {
    return code_of([&] {
      open_llama(random.config, random.weights, WeightFormat::f32, 4, 4,
                 make_ops_on(choice, 1, std::make_shared<std::string>(), std::move(devices)));
    });
  };
  CHECK(open(DeviceChoice::cpu, {0, 1}) == ErrorCode::invalid_config);
  CHECK(open(DeviceChoice::automatic, {0}) == ErrorCode::invalid_config);
  CHECK(open(DeviceChoice::cuda, {0, 4711}) == ErrorCode::unavailable);
  CHECK(code_of([&] { memory_of(DeviceChoice::cuda, 1, {0, 4711}); }) == ErrorCode::unavailable);
}

TEST_CASE("device names and thread counts are checked") {
  CHECK(parse_device("auto") == DeviceChoice::automatic);
  CHECK(parse_device("cpu") == DeviceChoice::cpu);
  CHECK(parse_device("cuda") == DeviceChoice::cuda);
  CHECK_THROWS_AS(parse_device("tpu"), Error);
  CHECK_THROWS_AS(make_ops_on(DeviceChoice::cpu, 0, nullptr), Error);
  CHECK_THROWS_AS(make_ops_on(DeviceChoice::cpu, 257, nullptr), Error);
}
