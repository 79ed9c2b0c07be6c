// Times single kernels at the shapes of a Llama-7B layer and prints one JSON line per number of rows. A time
// is the median over CUDA events around several launches, replayed from a graph as in the engine's steps. The
// launches read different data, so that none of it comes from the L2 cache. A process times one kind of
// kernel, so that a fault of one kind does not affect the others.
//
//   apar_bench_kernels gemm mma|wgmma|cublaslt|auto bf16|f16|fp8|int8|int4|int4-g128 qkv|down ROWS...
//   apar_bench_kernels attention shared|plain ROWS...    branches of a prompt of 450 tokens, 50 tokens each
//   apar_bench_kernels draw ROWS...                      tokens at temperature 0.8, top_p 0.95, of 32,000
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/random_bits.h"
#include "ops/cuda/attention/attention.h"
#include "ops/cuda/device/cuda_device.h"
#include "ops/cuda/device/platform.h"
#include "ops/cuda/elementwise/draw.h"
#include "ops/cuda/elementwise/elementwise.h"
#include "ops/cuda/gemm/cublaslt.h"
#include "ops/cuda/gemm/gemm.h"
#include "ops/cuda/gemm/weight_tiles.h"
#include "ops/cuda/step/step_buffer.h"
#include "test/cuda/tree_batch.h"

using namespace apar;
using namespace apar::cuda;

namespace {

constexpr int32_t kMinLaunches = 8, kMaxLaunches = 64;  // between two events
constexpr int32_t kSamples = 15;
constexpr double kWarmUpSeconds = 0.3;  // an idle device runs at low clocks
constexpr int32_t kHeads = 32, kHeadDim = 128, kShared = 450, kOwn = 50;

constexpr int32_t kVocab = 32000;

// The number of launches whose data, `bytes` each, fills the L2 cache several times. Small data gets no more
// than kMaxLaunches: it lies in the cache in the engine, too.
int32_t launches_of(size_t bytes) {
  int device = 0, cache_bytes = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&cache_bytes, cudaDevAttrL2CacheSize, device), "size of the L2 cache");
  const size_t filling = 4 * static_cast<size_t>(cache_bytes) / bytes + 1;
  return static_cast<int32_t>(std::clamp<size_t>(filling, kMinLaunches, kMaxLaunches));
}

double median_seconds(Device& device, int32_t launches, const std::function<void(int32_t)>& launch) {
  const std::unique_ptr<Timer> timer = device.make_timer();
  const auto launch_all = [&] {
    for (int32_t i = 0; i < launches; ++i) launch(i);
  };
  launch_all();  // a first launch does set-up work that cannot be captured
  device.synchronize();
  device.begin_capture();
  launch_all();
  const std::unique_ptr<Graph> graph = device.end_capture();
  const auto replay = [&] {
    timer->start();
    graph->launch();
    timer->stop();
    return timer->seconds();
  };
  for (double busy = 0; busy < kWarmUpSeconds;) busy += replay();
  std::vector<double> samples;
  for (int32_t sample = 0; sample < kSamples; ++sample) samples.push_back(replay());
  std::sort(samples.begin(), samples.end());
  return samples[kSamples / 2] / launches;
}

void print(const std::string& name, int32_t rows, double seconds, double bytes, double flop) {
  std::printf("{\"case\":\"%s %d\",\"us\":%.2f,\"bytes_per_s\":%.4g,\"flop_per_s\":%.4g}\n", name.c_str(),
              rows, seconds * 1e6, bytes / seconds, flop / seconds);
  std::fflush(stdout);
}

void copy_on_device(Device& device, void* to, const void* from, size_t bytes) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice,
                        static_cast<cudaStream_t>(device.stream().handle)),
        "copy");
}

// Pseudo-random numbers that are finite as bf16 and as f32; the same kPieceBytes are repeated.
void* random_bytes(Device& device, size_t bytes) {
  constexpr size_t kPieceBytes = size_t{16} << 20;
  const size_t piece = std::min(bytes, kPieceBytes);
  auto* const pinned = static_cast<uint16_t*>(device.allocate_pinned(piece));
  bench::fill_random_bf16({pinned, piece / 2});
  auto* const data = static_cast<std::byte*>(device.allocate(bytes, "bench"));
  device.upload(data, pinned, piece);
  for (size_t at = piece; at < bytes; at += piece)
    copy_on_device(device, data + at, data, std::min(piece, bytes - at));
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

struct LayerSize {
  int32_t outs, in;
};
LayerSize parse_layer(const std::string& name) {
  if (name == "qkv") return {12288, 4096};
  if (name == "down") return {4096, 11008};
  throw Error(ErrorCode::invalid_config, "a layer is qkv or down, not " + name);
}

void time_gemm(GemmBackend backend, WeightFormat format, const std::string& layer,
               const std::vector<int32_t>& all_rows) {
  const auto [outs, in] = parse_layer(layer);
  const auto device = open_cuda_device();
  const DeviceInfo& info = device->info();
  const auto lt = format == WeightFormat::bf16 ? CublasLt::open(*device, backend) : nullptr;
  if (lt) lt->reserve(int64_t{outs} * in);
  const size_t bytes = tiled_bytes(outs, in, format);
  const int32_t launches = launches_of(bytes);
  std::vector<const void*> weights;
  for (int32_t i = 0; i < launches; ++i) {
    void* const copy = i == 0 ? random_bytes(*device, bytes) : device->allocate(bytes, "bench");
    if (i > 0) copy_on_device(*device, copy, weights[0], bytes);
    weights.push_back(copy);
  }
  const int32_t max_rows = *std::max_element(all_rows.begin(), all_rows.end());
  GemmCall call;
  call.num_projections = 1;
  call.tiles = tiles_of(outs, kTileOuts);
  call.in = in;
  call.x_bf16 = static_cast<const uint16_t*>(random_bytes(*device, size_t{2} * max_rows * in));
  const GemmScratch scratch =
      max_gemm_scratch(max_rows, {info.multiprocessors, info.capability, backend, lt != nullptr});
  call.partials = static_cast<float*>(device->allocate(std::max<size_t>(4, 4 * scratch.partials), "bench"));
  call.arrived = static_cast<int32_t*>(device->allocate(std::max<size_t>(4, 4 * scratch.arrived), "bench"));
  auto* const out = static_cast<float*>(device->allocate(size_t{4} * max_rows * outs, "bench"));
  for (const int32_t rows : all_rows) {
    call.rows = rows;
    const GemmPlan plan = plan_gemm(rows, call.tiles, tiles_of(in, kTileInputs), format,
                                    {info.multiprocessors, info.capability, backend, lt != nullptr});
    const double seconds = median_seconds(*device, launches, [&](int32_t i) {
      call.projections[0] = {weights[i], out, outs, 0};
      plan.kernel == GemmKernel::cublaslt ? lt->multiply(call)
                                          : packed_gemm(device->stream(), call, format, plan);
    });
    print(std::string(kernel_name(plan.kernel)) + " " + to_string(format) + " " + layer, rows, seconds,
          static_cast<double>(bytes) + 2.0 * rows * in + 4.0 * rows * outs, 2.0 * rows * outs * in);
  }
}

// The reported bytes count the prompt once even where plain attention reads it more often: compare the two by
// their times.
void time_attention(const std::string& sharing, int32_t rows) {
  const auto device = open_cuda_device();
  const test::TreeBatch tree = test::fan_batch(kShared, kOwn, rows);
  const HeadShape shape = {kHeads, kHeads, kHeadDim};
  AttentionWork work(parse_sharing(sharing), attention_bytes(1, kHeadDim, KvFormat::bf16));
  const int32_t blocks = attention_mma_blocks(shape, KvFormat::bf16);
  work.build(tree.batch(), 1,
             {.partials = AttentionWork::max_partials(rows, kShared + kOwn),
              .busy_items = tiles_of(blocks, kHeads)});
  std::vector<int32_t> words;
  write_step(tree.batch(), work, words);
  auto* const pinned = device->allocate_pinned(words.size() * 4);
  std::memcpy(pinned, words.data(), words.size() * 4);
  auto* const step = static_cast<StepHeader*>(device->allocate(words.size() * 4, "bench"));
  device->upload(step, pinned, words.size() * 4);
  const size_t pool = size_t{2} * tree.num_blocks() * kHeads * kBlockTokens * kHeadDim;
  const int32_t launches = launches_of(2 * pool);
  std::vector<KvLayer> layers;
  for (int32_t i = 0; i < launches; ++i)
    layers.push_back({random_bytes(*device, pool), random_bytes(*device, pool), KvFormat::bf16});
  const size_t width = size_t{1} * kHeads * kHeadDim, partials = work.num_partials();
  const auto* const q = static_cast<const float*>(random_bytes(*device, 4 * rows * width));
  const AttentionPartials results = {static_cast<float*>(device->allocate(4 * partials * width, "bench")),
                                     static_cast<float*>(device->allocate(8 * partials * kHeads, "bench"))};
  auto* const out = static_cast<float*>(device->allocate(4 * rows * width, "bench"));
  auto* const out_bf16 = static_cast<uint16_t*>(device->allocate(2 * rows * width, "bench"));
  const double seconds = median_seconds(*device, launches, [&](int32_t i) {
    attention_mma(device->stream(), step, shape, q, layers[i], results, blocks);
    attention_merge(device->stream(), step, rows, shape, results, out, out_bf16);
  });
  print("attention " + sharing, rows, seconds, 4.0 * (kShared + rows * kOwn) * width,
        4.0 * rows * (kShared + kOwn) * width);
}

void time_draw(int32_t rows) {
  const auto device = open_cuda_device();
  const int32_t launches = launches_of(size_t{4} * rows * kVocab);
  std::vector<const float*> logits;
  for (int32_t i = 0; i < launches; ++i)
    logits.push_back(static_cast<const float*>(random_bytes(*device, size_t{4} * rows * kVocab)));
  auto* const pinned = static_cast<TokenDraw*>(device->allocate_pinned(rows * sizeof(TokenDraw)));
  for (int32_t row = 0; row < rows; ++row) {
    pinned[row] = TokenDraw();
    pinned[row].temperature = 0.8f;
    pinned[row].top_p = 0.95f;
    pinned[row].uniform = (row + 0.5) / rows;
  }
  auto* const draws = static_cast<TokenDraw*>(device->allocate(rows * sizeof(TokenDraw), "bench"));
  auto* const drawn = static_cast<DrawnToken*>(device->allocate(rows * sizeof(DrawnToken), "bench"));
  device->upload(draws, pinned, rows * sizeof(TokenDraw));
  const double seconds = median_seconds(*device, launches, [&](int32_t i) {
    draw_tokens(device->stream(), logits[i], rows, kVocab, draws, drawn);
  });
  print("draw", rows, seconds, 4.0 * rows * kVocab, 0);
}

std::vector<int32_t> parse_rows(int count, char** words, int first) {
  std::vector<int32_t> rows;
  for (int i = first; i < count; ++i) rows.push_back(std::atoi(words[i]));
  if (rows.empty() || *std::min_element(rows.begin(), rows.end()) < 1)
    throw Error(ErrorCode::invalid_config, "the numbers of rows are missing or not positive");
  return rows;
}

void run(int count, char** words) {
  const std::string kind = count > 1 ? words[1] : "";
  if (kind == "gemm" && count > 5) {
    time_gemm(parse_gemm_backend(words[2]), parse_weight_format(words[3]), words[4],
              parse_rows(count, words, 5));
  } else if (kind == "attention" && count > 3) {
    for (const int32_t rows : parse_rows(count, words, 3)) time_attention(words[2], rows);
  } else if (kind == "draw" && count > 2) {
    for (const int32_t rows : parse_rows(count, words, 2)) time_draw(rows);
  } else {
    throw Error(ErrorCode::invalid_config,
                "usage: gemm KERNELS FORMAT LAYER ROWS..., "
                "attention SHARING ROWS..., draw ROWS...");
  }
}

}  // namespace

int main(int count, char** words) {
  try {
    run(count, words);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
