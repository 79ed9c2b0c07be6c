// Kernels by themselves at a Llama-7B layer's shapes, one JSON line per case: matrix products of every
// format, attention of branches below one prompt. Times are medians of events around several launches on
// different weights, so that none comes from the L2 cache, replayed from a graph as the engine's steps are.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "ops/cuda/cuda_device.h"
#include "ops/cuda/gemm.h"
#include "ops/cuda/gemm_cublaslt.h"
#include "ops/cuda/kernels.h"
#include "ops/cuda/platform.h"
#include "ops/cuda/step_buffer.h"
#include "ops/cuda/weight_tiles.h"
#include "test/cuda/tree_batch.h"

using namespace apar;
using namespace apar::cuda;

namespace {

constexpr int32_t kLaunches = 8;  // between two events
constexpr int32_t kSamples = 15;
constexpr int32_t kHeads = 32, kHeadDim = 128, kShared = 450, kOwn = 50;

double median_seconds(Device& device, const std::function<void(int32_t)>& launch) {
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin), "event");
  check(cudaEventCreate(&end), "event");
  auto* const stream = static_cast<cudaStream_t>(device.stream());
  const auto launch_all = [&] {
    for (int32_t i = 0; i < kLaunches; ++i) launch(i);
  };
  launch_all();  // what a first launch sets up cannot be recorded
  device.synchronize();
  device.begin_capture();
  launch_all();
  const std::unique_ptr<Graph> graph = device.end_capture();
  std::vector<float> samples;
  for (int32_t sample = -2; sample < kSamples; ++sample) {
    check(cudaEventRecord(begin, stream), "event");
    graph->launch();
    check(cudaEventRecord(end, stream), "event");
    device.synchronize();
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin, end), "event");
    if (sample >= 0) samples.push_back(milliseconds);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::sort(samples.begin(), samples.end());
  return samples[kSamples / 2] / 1e3 / kLaunches;
}

void print(const char* kernel, const char* format, const char* layer, int32_t rows, double seconds,
           double bytes) {
  std::printf("{\"part\":\"kernels\",\"case\":\"%s %s %s %d\",\"us\":%.2f,\"bytes_per_s\":%.4g}\n", kernel,
              format, layer, rows, seconds * 1e6, bytes / seconds);
}

// Pseudo-random bytes that are finite numbers as bf16 and as f32.
void* random_bytes(Device& device, size_t bytes) {
  auto* const pinned = static_cast<uint16_t*>(device.allocate_pinned(bytes));
  uint32_t state = 1;
  for (size_t i = 0; i < bytes / 2; ++i) {
    state = state * 1664525u + 1013904223u;
    pinned[i] = static_cast<uint16_t>(((state >> 16) & 0x807fu) | 0x3c80u);
  }
  void* const data = device.allocate(bytes, "bench");
  device.upload(data, pinned, bytes);
  device.synchronize();
  return data;
}

const char* kernel_name(GemmKernel kernel) {
  switch (kernel) {
    case GemmKernel::stream:
      return "gemm_stream";
    case GemmKernel::mma:
      return "gemm_mma";
    case GemmKernel::wgmma:
      return "gemm_wgmma";
    case GemmKernel::cublaslt:
      return "cublaslt";
  }
  return "";
}

void time_gemm(GemmChoice choice, WeightFormat format, const char* name, int32_t outs, int32_t in) {
  const auto device = open_cuda_device();
  const DeviceInfo& info = device->info();
  const auto lt = format == WeightFormat::bf16 ? CublasLt::open(*device, choice) : nullptr;
  if (lt) lt->reserve(int64_t{outs} * in);
  const size_t bytes = tiled_bytes(outs, in, format);
  std::vector<const void*> weights;
  for (int32_t i = 0; i < kLaunches; ++i) {
    void* const copy = i == 0 ? random_bytes(*device, bytes) : device->allocate(bytes, "bench");
    if (i > 0)
      check(cudaMemcpyAsync(copy, weights[0], bytes, cudaMemcpyDeviceToDevice,
                            static_cast<cudaStream_t>(device->stream())),
            "copy");
    weights.push_back(copy);
  }
  constexpr int32_t kMaxRows = 2048;
  GemmCall call;
  call.num_projections = 1;
  call.tiles = tiles_of(outs, kTileOuts);
  call.in = in;
  call.x_bf16 = static_cast<const uint16_t*>(random_bytes(*device, size_t{2} * kMaxRows * in));
  call.partials = static_cast<float*>(
      device->allocate(size_t{4} * kMaxSplits * kMaxRows * call.tiles * kTileOuts, "bench"));
  call.arrived = static_cast<int32_t*>(device->allocate(size_t{4} * call.tiles * kMaxRows, "bench"));
  auto* const out = static_cast<float*>(device->allocate(size_t{4} * kMaxRows * outs, "bench"));
  for (const int32_t rows : {1, 4, 8, 16, 32, 64, 128, 384, 512, kMaxRows}) {
    call.rows = rows;
    const bool by_library = lt && rows >= kMinCublasLtRows;
    if (choice == GemmChoice::cublaslt && !by_library) continue;  // the others are timed by themselves
    const GemmPlan plan = plan_gemm(rows, call.tiles, tiles_of(in, kTileInputs), format,
                                    {info.multiprocessors, info.capability, choice, lt != nullptr});
    const double seconds = median_seconds(*device, [&](int32_t i) {
      call.projections[0] = {weights[i], out, outs, 0};
      plan.kernel == GemmKernel::cublaslt ? lt->multiply(call)
                                          : packed_gemm(device->stream(), call, format, plan);
    });
    print(kernel_name(plan.kernel), to_string(format), name, rows, seconds,
          static_cast<double>(bytes) + 2.0 * rows * in + 4.0 * rows * outs);
  }
}

// Bytes are those of a prompt read once, also where it is not: seconds compare.
void time_attention(Sharing sharing, const char* name, int32_t rows) {
  const auto device = open_cuda_device();
  const test::TreeBatch tree = test::fan_batch(kShared, kOwn, rows);
  const HeadShape shape = {kHeads, kHeads, kHeadDim};
  AttentionWork work(sharing, attention_bytes(1, kHeadDim, KvFormat::bf16));
  work.build(tree.batch(), 1, AttentionWork::max_parts(rows, kShared + kOwn));
  std::vector<int32_t> words;
  write_step(tree.batch(), work, words);
  auto* const pinned = device->allocate_pinned(words.size() * 4);
  std::memcpy(pinned, words.data(), words.size() * 4);
  auto* const step = static_cast<StepHeader*>(device->allocate(words.size() * 4, "bench"));
  device->upload(step, pinned, words.size() * 4);
  const size_t pool = size_t{2} * tree.num_blocks() * kHeads * kBlockTokens * kHeadDim;
  std::vector<KvLayer> layers;
  for (int32_t i = 0; i < kLaunches; ++i)
    layers.push_back({random_bytes(*device, pool), random_bytes(*device, pool), KvFormat::bf16});
  const size_t width = size_t{1} * kHeads * kHeadDim, parts = work.num_parts();
  const auto* const q = static_cast<const float*>(random_bytes(*device, 4 * rows * width));
  const AttentionParts partial = {static_cast<float*>(device->allocate(4 * parts * width, "bench")),
                                  static_cast<float*>(device->allocate(8 * parts * kHeads, "bench"))};
  auto* const out = static_cast<float*>(device->allocate(4 * rows * width, "bench"));
  auto* const out_bf16 = static_cast<uint16_t*>(device->allocate(2 * rows * width, "bench"));
  const int32_t processors = device->info().multiprocessors;
  const double seconds = median_seconds(*device, [&](int32_t i) {
    attention_mma(device->stream(), step, shape, q, layers[i], partial, {4 * processors, 2 * processors});
    attention_merge(device->stream(), step, rows, shape, partial, out, out_bf16);
  });
  print("attention", name, "450+50", rows, seconds, 4.0 * (kShared + rows * kOwn) * width);
}

}  // namespace

// Without an argument everything with the kernels that are used by default; with a GemmChoice's name the
// matrix products alone.
int main(int count, char** words) {
  try {
    const GemmChoice choice = parse_gemm_choice(count > 1 ? words[1] : "mma");
    if (count == 1)
      for (const int32_t rows : {1, 32, 128, 350})
        for (const auto& [sharing, name] : {std::pair(Sharing::always, "shared"), {Sharing::never, "plain"}})
          time_attention(sharing, name, rows);
    for (const WeightFormat format :
         {WeightFormat::bf16, WeightFormat::f16, WeightFormat::fp8, WeightFormat::int8, WeightFormat::int4}) {
      time_gemm(choice, format, "qkv", 12288, 4096);
      time_gemm(choice, format, "down", 4096, 11008);
    }
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
