// Times matrix products of one layer's shape with every instruction set and prints one JSON line per case:
//   build/release/bench/bench_ops [threads] [outs] [in] [milliseconds per case] [rows,...] [formats,...]
//   [sets,...]
// Successive calls use different matrices, so that the weights come from memory, as in a model that is larger
// than the caches.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "bench/clock.h"
#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/packed.h"

using namespace apar;
using bench::now_s;

namespace {

constexpr int64_t kWeightBytes = int64_t{192} << 20;

void run(cpu::Isa isa, WeightFormat format, int32_t threads, int32_t rows, int64_t outs, int64_t in,
         double seconds) {
  const OpsConfig config = {.num_layers = 1,
                            .num_heads = 1,
                            .num_kv_heads = 1,
                            .head_dim = 2,
                            .num_blocks = 1,
                            .max_rows = rows,
                            .max_context = 16,
                            .max_inputs = in};
  cpu::CpuOps ops(config, isa, threads);
  std::vector<float> weights(static_cast<size_t>(outs * in));
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<float>(i % 251) * 1e-3f;
  const int64_t bytes =
      format == WeightFormat::f32 ? outs * in * 4 : cpu::panels(outs) * cpu::panel_bytes(format, in);
  std::vector<std::vector<float>> copies;  // of f32 weights, which CpuOps reads in place
  std::vector<Linear> layers;
  for (int64_t total = 0; total < kWeightBytes; total += bytes) {
    if (format == WeightFormat::f32) copies.push_back(weights);
    const float* const source = format == WeightFormat::f32 ? copies.back().data() : weights.data();
    layers.push_back(ops.place_linear({source, DType::f32, outs, in}, format, {}));
  }
  float* const x = ops.allocate(rows * in, Axis::whole);
  float* const y = ops.allocate(rows * outs, Axis::whole);
  std::fill_n(x, rows * in, 0.5f);
  std::vector<double> samples;
  const double end = now_s() + seconds;
  for (size_t turn = 0; samples.size() < 5 || now_s() < end; ++turn) {
    const Projection projection = {layers[turn % layers.size()], y};
    const double start = now_s();
    ops.matmul(x, rows, {&projection, 1});
    samples.push_back(now_s() - start);
  }
  std::sort(samples.begin(), samples.end());
  const double median = samples[samples.size() / 2];
  std::printf(
      "{\"op\":\"matmul\",\"isa\":\"%s\",\"format\":\"%s\",\"threads\":%d,\"rows\":%d,\"outs\":%lld,\"in\":%"
      "lld,"
      "\"median_us\":%.1f,\"p5_us\":%.1f,\"weights_gb_per_s\":%.1f,\"gflop_per_s\":%.1f}\n",
      cpu::to_string(isa), to_string(format), threads, rows, static_cast<long long>(outs),
      static_cast<long long>(in), median * 1e6, samples[samples.size() / 20] * 1e6,
      static_cast<double>(bytes) / median / 1e9, 2.0 * rows * static_cast<double>(outs * in) / median / 1e9);
  std::fflush(stdout);
}

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  std::istringstream stream(list);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
}

bool contains(const std::vector<std::string>& list, const std::string& word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

}  // namespace

int main(int argc, char** argv) {
  const auto argument = [&](int index, int fallback) {
    return argc > index ? std::atoi(argv[index]) : fallback;
  };
  const int32_t threads = argument(1, 2), outs = argument(2, 5632), in = argument(3, 2048);
  const double seconds = argument(4, 300) * 1e-3;
  const auto list = [&](int index, const char* fallback) {
    return split(argc > index ? argv[index] : fallback);
  };
  const auto rows_list = list(5, "1,8,32,512"), formats = list(6, "f32,bf16,int8,int4"), sets = list(7, "");
  for (const cpu::Isa isa : cpu::kAllIsas) {
    if (!cpu::supported(isa) || !(sets.empty() || contains(sets, cpu::to_string(isa)))) continue;
    for (const WeightFormat format :
         {WeightFormat::f32, WeightFormat::bf16, WeightFormat::int8, WeightFormat::int4}) {
      if (!contains(formats, to_string(format))) continue;
      for (const std::string& text : rows_list)
        if (const int32_t rows = std::atoi(text.c_str()); isa != cpu::Isa::reference || rows <= 8)
          run(isa, format, threads, rows, outs, in, seconds);
    }
  }
}
