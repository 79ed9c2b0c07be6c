// What the emulator checks of kernels that may begin before the earlier ones have ended, and that all kernels
// of a step are such ones.
#include <doctest/doctest.h>

#include <cstdlib>
#include <numeric>
#include <stdexcept>
#include <string>

#include "ops/cuda/device/overlap.cuh"
#include "test/cuda/cuda_model.h"
#include "test/cuda/emulated_model.h"

using namespace apar;
using namespace apar::cuda;
using namespace apar::test;

namespace {

void waits_first(const float* constant, float* data) {
  begin_overlapping();
  data[threadIdx.x] += constant[threadIdx.x];
}

void reads_constants_first(const float* constant, float* data) {
  const float loaded = constant[threadIdx.x];
  __syncthreads();
  wait_for_earlier_kernels();
  data[threadIdx.x] += loaded;
}

void reads_first(const float* constant, float* data) {
  const float loaded = data[threadIdx.x];
  wait_for_earlier_kernels();
  data[threadIdx.x] = loaded + constant[threadIdx.x];
}

void writes_first(const float* constant, float* data) {
  data[threadIdx.x] = constant[threadIdx.x];
  wait_for_earlier_kernels();
}

void waits_in_one_warp(const float* constant, float* data) {
  if (threadIdx.x >= 32) return;
  wait_for_earlier_kernels();
  data[threadIdx.x] += constant[threadIdx.x];
}

constexpr uint32_t kThreads = 64, kBlocks = 3;

struct Memory {
  EmulatedDevice device;
  float* constant = static_cast<float*>(device.allocate(kThreads * sizeof(float), "weights"));
  float* data = static_cast<float*>(device.allocate(kThreads * sizeof(float), "activations"));

  Memory() { std::fill_n(constant, kThreads, 2.0f); }

  template <auto kernel>
  void run() {
    launch_overlapping<kernel>({&device, true}, {kBlocks}, kThreads, 0, constant, data);
  }
  // Why the launch failed.
  template <auto kernel>
  std::string failure() {
    try {
      run<kernel>();
    } catch (const std::logic_error& error) {
      return error.what();
    }
    return "";
  }
};

}  // namespace

TEST_CASE("kernels that wait before they access what other kernels write") {
  Memory memory;
  memory.run<waits_first>();
  memory.run<reads_constants_first>();
  CHECK(memory.data[0] == 2 * kBlocks * 2.0f);
  CHECK(memory.data[kThreads - 1] == 2 * kBlocks * 2.0f);
}

TEST_CASE("kernels that do not wait, or not in time, fail") {
  for (int again = 0; again < 2; ++again) {
    Memory memory;
    CHECK(memory.failure<reads_first>().find("before it has waited") != std::string::npos);
    CHECK(memory.failure<writes_first>().find("before it has waited") != std::string::npos);
    CHECK(memory.failure<waits_in_one_warp>().find("without waiting") != std::string::npos);
    CHECK(memory.failure<waits_first>().empty());
    CHECK(std::isfinite(memory.data[0]));  // the memory can be read again
  }
}

TEST_CASE("all kernels of a step may begin early if APAR_CUDA_PDL is on, and none if it is off") {
  const RandomModel random = make_random_model(
      tensor_core_config(
          {.hidden_size = 64, .intermediate_size = 96, .num_layers = 2, .num_heads = 2, .num_kv_heads = 1}),
      3);
  for (const bool on : {true, false}) {
    ::setenv("APAR_CUDA_PDL", on ? "on" : "off", 1);
    const auto [device, model] = open_emulated(random, 2, 8);
    ::unsetenv("APAR_CUDA_PDL");
    std::vector<int32_t> rows(8);
    std::iota(rows.begin(), rows.end(), 0);
    const std::vector<int32_t> blocks{0}, path{0}, logit_rows{7};
    const std::vector<KvNodeView> nodes{{blocks, 0, 8}};
    const std::vector<SequenceRows> sequences{{0, 8, 0, 1, 8}};
    std::vector<float> logits(static_cast<size_t>(random.config.vocab_size));
    const int32_t before = device->launches();
    model->forward({rows, rows, rows, sequences, nodes, path, logit_rows}, logits);
    CHECK(device->launches() > before);
    CHECK(device->overlapping_runs() == (on ? device->launches() - before : 0));
  }
}
