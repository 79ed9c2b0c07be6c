#include "ops/cuda/gemm/gemm.h"

namespace apar::cuda {

void packed_gemm(Stream stream, const GemmCall& call, WeightFormat format, const GemmPlan& plan) {
  if (plan.kernel == GemmKernel::stream) return gemm_stream(stream, call, format, plan);
  if (plan.kernel == GemmKernel::wgmma) return gemm_wgmma(stream, call, format, plan);
  gemm_mma(stream, call, format, plan);
}

}  // namespace apar::cuda
