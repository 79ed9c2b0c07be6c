// Matrix products of one layer's shape for every instruction set, one JSON line per case:
//   build/release/bench/bench_ops [threads] [outs] [in] [milliseconds per case]
// Several matrices take turns so that the weights come from memory, as in a model larger than the caches.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "ops/cpu/cpu_ops.h"
#include "ops/float16.h"

using namespace apar;

namespace {

constexpr size_t kWeightBytes = size_t{192} << 20;

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void bench(cpu::Isa isa, DType dtype, int32_t threads, int32_t rows, int64_t outs, int64_t in,
           double seconds) {
  const OpsConfig config = {.num_layers = 1,
                            .num_heads = 1,
                            .num_kv_heads = 1,
                            .head_dim = 2,
                            .num_blocks = 1,
                            .max_rows = rows,
                            .max_context = 16};
  cpu::CpuOps ops(config, isa, threads);
  const size_t bytes = outs * in * element_bytes(dtype), count = std::max<size_t>(1, kWeightBytes / bytes);
  const cpu::AlignedBytes weights = cpu::allocate_aligned(count * bytes, "weights");
  for (size_t i = 0; i < count * bytes / 2; ++i)
    reinterpret_cast<uint16_t*>(weights.get())[i] = f32_to_bf16(static_cast<float>(i % 251) * 1e-3f);
  std::vector<Linear> layers;
  for (size_t i = 0; i < count; ++i)
    layers.push_back(ops.place_linear({weights.get() + i * bytes, dtype, outs, in},
                                      dtype == DType::f32 ? WeightFormat::f32 : WeightFormat::bf16));
  float* const x = ops.allocate(rows * in);
  float* const y = ops.allocate(rows * outs);
  std::fill_n(x, rows * in, 0.5f);
  std::vector<double> samples;
  const double end = now_s() + seconds;
  for (size_t turn = 0; samples.size() < 5 || now_s() < end; ++turn) {
    const Projection projection = {layers[turn % count], y};
    const double start = now_s();
    ops.matmul(x, rows, {&projection, 1});
    samples.push_back(now_s() - start);
  }
  std::sort(samples.begin(), samples.end());
  const double median = samples[samples.size() / 2];
  std::printf(
      "{\"op\":\"matmul\",\"isa\":\"%s\",\"dtype\":\"%s\",\"threads\":%d,\"rows\":%d,\"outs\":%lld,\"in\":%"
      "lld,"
      "\"median_us\":%.1f,\"p5_us\":%.1f,\"weights_gb_per_s\":%.1f,\"gflop_per_s\":%.1f}\n",
      cpu::to_string(isa), dtype == DType::f32 ? "f32" : "bf16", threads, rows, static_cast<long long>(outs),
      static_cast<long long>(in), median * 1e6, samples[samples.size() / 20] * 1e6,
      static_cast<double>(bytes) / median / 1e9, 2.0 * rows * static_cast<double>(outs * in) / median / 1e9);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const auto argument = [&](int index, int fallback) {
    return argc > index ? std::atoi(argv[index]) : fallback;
  };
  const int32_t threads = argument(1, 2), outs = argument(2, 5632), in = argument(3, 2048);
  const double seconds = argument(4, 300) * 1e-3;
  for (const cpu::Isa isa : {cpu::Isa::reference, cpu::Isa::avx2, cpu::Isa::avx512}) {
    if (!cpu::supported(isa)) continue;
    for (const DType dtype : {DType::f32, DType::bf16})
      for (const int32_t rows : {1, 8, 32, 256})
        if (isa != cpu::Isa::reference || rows <= 8) bench(isa, dtype, threads, rows, outs, in, seconds);
  }
}
