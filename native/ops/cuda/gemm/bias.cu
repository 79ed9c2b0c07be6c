#include "ops/cuda/device/platform.h"
#include "ops/cuda/gemm/gemm.h"

namespace apar::cuda {
namespace {

constexpr uint32_t kThreads = 256;

__global__ void __launch_bounds__(kThreads) add_to_rows(int32_t outs, const float* bias, float* out) {
  float* const row = out + static_cast<int64_t>(blockIdx.x) * outs;
  for (int32_t i = threadIdx.x; i < outs; i += kThreads) row[i] += bias[i];
}

}  // namespace

void add_bias(Stream stream, int32_t rows, int32_t outs, const float* bias, float* out) {
  launch<add_to_rows>(stream, {static_cast<uint32_t>(rows)}, kThreads, 0, outs, bias, out);
}

}  // namespace apar::cuda
